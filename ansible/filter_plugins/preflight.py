"""Ansible filter: what would make a deployment fail, found before anything is changed."""

from __future__ import annotations

import re
from collections import defaultdict
from ipaddress import ip_address, ip_network
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
#: What there may be in the place of the system's engine -> what to do.
OTHERS = {
    "snap": "Docker is snap's, which sees no folders of the system: run `sudo snap remove docker` there",
    "podman": "docker is podman's there: run `sudo apt-get remove podman-docker`; podman may stay",
    "rootless": "Docker runs for a login alone (rootless): run `sudo systemctl enable --now docker`, or remove it",
}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"preflight_problems": problems, "preflight_error": error, "preflight_others": others}


def others(facts: dict[str, dict[str, Any]], name: str, scheduler: str, ports: list[int]) -> dict[str, str]:
    """Give name -> address of the hosts that one of them tries: those of a sample that it has to reach already.

    Parameters
    ----------
    facts
        Name -> facts of the module node_facts; none for a host that could not be looked at.
    name
        The host that is to try.
    scheduler
        The scheduler's host, which all try.
    ports
        Those that it tries.
    """
    return {
        other: its["address"]
        for other, its in facts.items()
        if other in _sample(list(facts), name, scheduler)
        and its.get("address")
        and not _opens(its["firewall"], facts[name]["address"], ports)
    }


def _sample(names: list[str], name: str, scheduler: str) -> set[str]:
    """Choose whom a host tries: in a circle, those 1, 2, 4, 8, ... further, and the scheduler's.

    So each of n hosts tries, and is tried by, 1 + log2(n) others, and no two parts of a room go untried: the next one
    along is always among them. Up to three hosts, that is everybody.
    """
    place, count = names.index(name), len(names)
    chosen = {names[(place + 2**power) % count] for power in range((count - 1).bit_length())}
    return (chosen | {scheduler}) - {name}


def _opens(firewall: dict[str, Any], address: str, ports: list[int]) -> bool:
    """Tell whether deploying opens a firewall that lets an address in to none of these ports now."""
    rules = [rule for rule in firewall.get("rules", []) if rule["source"] == address]
    ranges = [part.partition(":") for rule in rules for part in rule["ports"].split(",")]
    known = [range(int(first), int(last or first) + 1) for first, _, last in ranges]
    return firewall["name"] == "ufw" and not any(port in each for port in ports for each in known)


def problems(hosts: list[dict[str, Any]]) -> list[str]:
    """Give a line for each thing that is wrong, with the host and what to do.

    Parameters
    ----------
    hosts
        For each its `name`; `error`, what Ansible said when it could not look at it, and `unreachable`, whether SSH was
        what failed; `connected_to`, where SSH looks for it; `facts` of the module node_facts; `unreached`, what
        node_reach found, as name -> address; `registry`, the address of the room's; and what it will need: `ports` as
        service -> list of port, what for and its setting, and `clashes`, what is wrong with those; `disk` and `memory`
        in bytes; `clock_is_set`, whether deploying puts its clock right.
    """
    found = []
    for host in hosts:
        lines = [_of_error(host)] if host["error"] else [*_of_host(host), *_of_network(host, hosts)]
        found += [f"{host['name']}: {line}" for line in lines]
    return found + list(_shared_addresses(hosts))


def error(host: dict[str, Any]) -> str:
    """Say why a host could not be looked at, as for `problems`; "" when it could."""
    return f"{host['name']}: {_of_error(host)}" if host["error"] else ""


def _of_error(host: dict[str, Any]) -> str:
    # SSH says the reason last.
    lines = host["error"].strip().splitlines() or ["no answer"]
    reason = re.sub(r"^(Task failed: )?(.* (?:via|over) ssh: )?(ssh: )?", "", lines[-1].strip()).rstrip(".: ")
    # A host may be called as one of the words that are looked for.
    said = host["error"]
    for name in sorted({host["name"], host["connected_to"]}, key=len, reverse=True):
        said = said.replace(name, "")
    if host["unreachable"]:
        return f"can't be reached by SSH ({reason}): is it on, is ansible_host right, does `ssh` reach it?"
    if re.search(r"waiting for privilege escalation prompt|sudo-rs|incorrect sudo password", said, re.IGNORECASE):
        return (
            f"sudo does not take the password ({reason}): is it right? Where sudo is sudo-rs (Ubuntu 25.10 and later), "
            "set ansible_become_exe to sudo.ws for this host"
        )
    if re.search(r"sudo|become|privilege|password is required", said, re.IGNORECASE):
        return f"sudo is refused ({reason}): let the login use sudo, and give its password with --ask-become-pass"
    if re.search(r"requires a minimum of Python|SyntaxError|AttributeError", said):
        return (
            f"its Python is too old ({reason}): install a system that is supported, or set ansible_python_interpreter"
        )
    if re.search(r"python|interpreter", said, re.IGNORECASE):
        return f"Python does not run ({reason}): install the package python3 there"
    return f"could not be looked at ({reason}): does `ssh` to it, and `sudo` there, work?"


def _of_host(host: dict[str, Any]) -> Iterator[str]:
    facts = host["facts"]
    yield from _of_system(facts)
    yield from _of_container(facts)
    if facts["boot"]:
        yield facts["boot"]
    yield from _of_engine(facts["engine"])
    if not facts["address"]:
        yield "no IPv4 address that the others could use: set node_address to one, as 192.168.1.5"
    if abs(facts["clock"]) > CLOCK_SECONDS and not host["clock_is_set"]:
        yield f"its clock is {facts['clock']:+.0f} s off the controller's: run `sudo timedatectl set-ntp true` there"
    for folder, free in facts["free"].items():
        if free < host["disk"]:
            yield (
                f"{free / GIB:.1f} GiB free for {folder}, {host['disk'] / GIB:.1f} are needed: "
                "free some space, or lower node_least_disk"
            )
    if facts["memory"] < host["memory"]:
        yield (
            f"{facts['memory'] / GIB:.2f} GiB of memory, {host['memory'] / GIB:.2f} are needed: "
            "leave this host out, or lower node_least_memory"
        )
    yield from host["clashes"]
    for port, purpose, setting in (
        each for service in host["ports"].keys() - facts["services"] for each in host["ports"][service]
    ):
        if str(port) in facts["listeners"]:
            yield (
                f"port {port}, which is for {purpose}, is in use by {facts['listeners'][str(port)]}: "
                f"stop that (`sudo ss -ltnp sport = {port}` shows it), or set {setting} to another"
            )


def _of_network(host: dict[str, Any], hosts: list[dict[str, Any]]) -> Iterator[str]:
    facts = host["facts"]
    there = {other["name"]: other["facts"] for other in hosts if not other["error"]}
    for name, address in host["unreached"].items():
        other = there.get(name, {})
        ends = ((host["name"], facts), (name, other))
        several = [
            f"{end} has {' and '.join(its['addresses'])}" for end, its in ends if len(its.get("addresses", [])) > 1
        ]
        yield f"does not reach {name} ({address}): " + (
            f"{'; '.join(several)}: set node_address to the one in the room's network"
            if several
            else "are both on one network, and is no firewall between them?"
        )
    proxy = facts["engine"]["proxy"]
    if proxy and host["registry"] and not _is_bypassed(host["registry"], facts["engine"]["no_proxy"]):
        yield (
            f"its engine would ask the proxy {proxy} for the room's images: add {host['registry']} to NO_PROXY where "
            "that is set for docker.service, and restart it"
        )


def _is_bypassed(address: str, no_proxy: str) -> bool:
    """Tell whether a proxy is not asked for an address, by the list that says for what it is not."""
    for entry in re.split(r"[,\s]+", no_proxy):
        host = entry.rpartition(":")[0] if re.search(r":\d+$", entry) else entry
        if host in ("*", address):
            return True
        try:
            if "/" in host and ip_address(address) in ip_network(host, strict=False):
                return True
        except ValueError:
            continue
    return False


def _of_container(facts: dict[str, Any]) -> Iterator[str]:
    kind, root = facts["container"], facts["root"]
    if not facts["nests"]:
        yield f"is a container ({kind}) that may not hold others: allow that (nesting), and start it anew"
    if kind:
        return
    if not root["writable"]:
        yield "its root can't be written: let `sudo mount -o remount,rw /` work there, and make that last"
    elif root["kind"] in ("overlay", "overlayfs", "tmpfs"):
        yield (
            f"its root is in memory ({root['kind']}), which the next start empties: switch that off "
            "(`sudo raspi-config nonint disable_overlayfs` on a Raspberry Pi), and restart it"
        )


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
    yield from _of_settings(engine)
    if engine["removes"]:
        yield (
            f"installing Docker would remove {' '.join(engine['removes'])}: install the Docker Engine that belongs "
            "to it (docker-ce), or remove it"
        )
    if engine["other"]:
        yield OTHERS[engine["other"]]
    # What an earlier run left half done, this one completes.
    elif not engine["installed"] or engine["ours"]:
        return
    elif not engine["version"]:
        yield "Docker is installed but does not answer: run `sudo systemctl start docker`, or remove it"
    elif _older(engine["api"], OLDEST_API):
        yield f"Docker Engine {engine['version']} is too old: upgrade it to 25 or later, or remove it"
    elif not engine["compose"]:
        yield "Docker is installed without Compose: install docker-compose-plugin, or docker-compose of Debian's"
    elif _older(engine["compose"], OLDEST_COMPOSE):
        yield f"Docker Compose {engine['compose']} is too old: upgrade it to {OLDEST_COMPOSE} or later, or remove it"


def _of_settings(engine: dict[str, Any]) -> Iterator[str]:
    settings = engine["settings"]
    if settings is None:
        yield "/etc/docker/daemon.json is no JSON that an engine could read: mend it, or remove it"
        return
    if engine["maps_users"] or "userns-remap" in settings:
        yield "Docker maps users, and containers have no part in its network: take userns-remap out of its settings"
    if "hosts" in settings and not engine["installed"]:
        yield "/etc/docker/daemon.json says hosts, as Debian's service does; no engine would start: take it out"


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
