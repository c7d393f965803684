"""Ansible filter: what would make a deployment fail, found before anything is changed."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHITECTURES = ("amd64", "arm64")
#: ID of os-release -> oldest VERSION_ID. Raspberry Pi OS of 64 bits says that it is Debian.
DISTRIBUTIONS = {"debian": "13", "raspbian": "13", "ubuntu": "24.04"}
#: Of the engine, 25 and later; image health checks use its start interval.
OLDEST_API, OLDEST_COMPOSE = "1.44", "2.18"
#: TLS and Dask's time-outs suffer from more.
CLOCK_SECONDS = 60
GIB = 2**30


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"preflight_problems": problems}


def problems(hosts: list[dict[str, Any]]) -> list[str]:
    """Give a line for each thing that is wrong, with the host and what to do.

    Parameters
    ----------
    hosts
        For each its `name`; `error`, what Ansible said when it could not look at it; `facts` of the module node_facts;
        `unreached`, what node_reach found; and what it will need: `ports` as a list of service, port and what for;
        `free` as folder -> bytes; `memory` in bytes; `clock_is_set`, whether deploying puts its clock right.
    """
    found = []
    for host in hosts:
        lines = [_of_error(host["error"])] if host["error"] else list(_of_host(host))
        found += [f"{host['name']}: {line}" for line in lines]
    return found + list(_shared_addresses(hosts))


def _of_error(error: str) -> str:
    # SSH says the reason last.
    reason = error.strip().splitlines()[-1].strip() if error.strip() else "no answer"
    reason = re.sub(r"^(Task failed: )?(.* (?:via|over) ssh: )?(ssh: )?", "", reason).rstrip(".")
    if re.search(r"sudo|become|privilege|password is required", error, re.IGNORECASE):
        return f"sudo is refused ({reason}): let the login use sudo, and give its password with --ask-become-pass"
    if re.search(r"python|interpreter", error, re.IGNORECASE):
        return f"Python does not run ({reason}): install the package python3 there"
    return f"can't be reached by SSH ({reason}): is it on, is ansible_host right, does `ssh` reach it?"


def _of_host(host: dict[str, Any]) -> Iterator[str]:
    facts = host["facts"]
    yield from _of_system(facts)
    yield from _of_engine(facts["engine"])
    if not facts["address"]:
        yield "no IPv4 address that the others could use: set node_address to one, as 192.168.1.5"
    if abs(facts["clock"]) > CLOCK_SECONDS and not host["clock_is_set"]:
        yield f"its clock is {facts['clock']:+.0f} s off the controller's: run `sudo timedatectl set-ntp true` there"
    for folder, wanted in host["free"].items():
        if facts["free"][folder] < wanted:
            yield (
                f"{facts['free'][folder] / GIB:.1f} GiB free for {folder}, {wanted / GIB:.1f} are needed: "
                "free some space, or lower node_least_disk"
            )
    if facts["memory"] < host["memory"]:
        yield (
            f"{facts['memory'] / GIB:.2f} GiB of memory, {host['memory'] / GIB:.2f} are needed: "
            "leave this host out, or lower node_least_memory"
        )
    for service, port, purpose in host["ports"]:
        if service not in facts["services"] and str(port) in facts["listeners"]:
            yield (
                f"port {port}, which is for {purpose}, is in use by {facts['listeners'][str(port)]}: "
                f"stop that (`sudo ss -ltnp sport = {port}` shows it)"
            )
    for other in host["unreached"]:
        yield f"does not reach {other}: are both on one network, and is no firewall between them?"


def _of_system(facts: dict[str, Any]) -> Iterator[str]:
    architecture, release = facts["architecture"], facts["release"]
    if architecture not in ARCHITECTURES:
        yield (
            f"its userland is {architecture or 'no Debian one'}, only amd64 and arm64 are built: "
            "install a 64-bit system (a 64-bit kernel alone will not do)"
        )
    oldest = DISTRIBUTIONS.get(release["id"])
    if not oldest or _older(release["version"], oldest):
        yield (
            f"{release['name'] or 'an unknown system'} is not supported: "
            "install Debian 13, Raspberry Pi OS 13 (64-bit), Ubuntu 24.04 or later"
        )


def _of_engine(engine: dict[str, Any]) -> Iterator[str]:
    # What an earlier run left half done, this one completes.
    if not engine["installed"] or engine["ours"]:
        return
    if not engine["version"]:
        yield "Docker is installed but does not answer: run `sudo systemctl start docker`, or remove it"
    elif _older(engine["api"], OLDEST_API):
        yield f"Docker Engine {engine['version']} is too old: upgrade it to 25 or later, or remove it"
    elif not engine["compose"]:
        yield "Docker is installed without Compose: install docker-compose-plugin, or docker-compose of Debian's"
    elif _older(engine["compose"], OLDEST_COMPOSE):
        yield f"Docker Compose {engine['compose']} is too old: upgrade it to {OLDEST_COMPOSE} or later, or remove it"


def _shared_addresses(hosts: list[dict[str, Any]]) -> Iterator[str]:
    at = defaultdict(list)
    for host in hosts:
        if not host["error"] and host["facts"]["address"]:
            at[host["facts"]["address"]].append(host["name"])
    for address, names in at.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have one address, {address}: "
                "give each its own ansible_host, or node_address where that is right"
            )


def _older(version: str, than: str) -> bool:
    def numbers(words: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", words)[:2]]

    return numbers(version) < numbers(than)
