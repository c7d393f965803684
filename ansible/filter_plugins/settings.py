"""Ansible filters: settings as people give them, of which `-e name=value` makes text."""

from __future__ import annotations

import math
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROLES = Path(__file__).resolve().parent.parent / "roles"
#: Settings that Docker, or Dask, reads as an amount of memory.
SIZES = (
    *("dask_scheduler_memory", "dask_scheduler_workload_memory", "dask_worker_max_spill"),
    *("jobs_memory", "jobs_keep_size", "jobs_max_upload", "notebook_memory"),
)
BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
#: Of a host, whatever runs on it -> type.
OF_HOSTS = {"host_watts": "float", "notebook": "bool"}
OF_OURS = "/var/lib/tritoncluster/"
#: MiB that the jobs service takes itself, and what docker/gateway.compose.yaml gives to the gateway.
JOBS_SERVICE, GATEWAY = 256, 128
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {
            "setting_problems": problems,
            "settings_of": of,
            "mebibytes": mebibytes,
            "memory_beside_workers": memory_beside_workers,
            "memory_of_jobs": memory_of_jobs,
            "words": words,
            "worker_scratch": worker_scratch,
        }


def problems(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give a line for each setting that can't be what it has to be; one for all hosts where all have the same.

    Parameters
    ----------
    hosts
        Their names.
    variables
        Ansible's `hostvars`.
    """
    found: dict[str, list[str]] = {}
    names = list(hosts)
    for host in names:
        for setting, kind in kinds().items():
            if setting in variables[host]:
                said = problem(setting, kind, variables[host][setting])
                if said:
                    found.setdefault(said, []).append(host)
    return [f"{'inventory' if having == names else ', '.join(having)}: {said}" for said, having in found.items()]


@cache
def specs() -> dict[str, dict[str, Any]]:
    """Give setting -> its argument spec, of the roles' settings."""
    return {
        name: one
        for path in sorted(ROLES.glob("*/meta/argument_specs.yml"))
        for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values()
        for name, one in spec["options"].items()
        if not one.get("required")
    }


def kinds() -> dict[str, str]:
    """Give setting -> type, of hosts and of the roles' argument specs."""
    return OF_HOSTS | {name: spec["type"] for name, spec in specs().items()}


def of(variables: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Give setting -> what a host has, or the default; for roles that ask for what is another role's.

    Parameters
    ----------
    variables
        One host's of Ansible's `hostvars`.
    names
        Settings of roles.
    """
    return {name: variables.get(name, specs()[name]["default"]) for name in names}


def problem(setting: str, kind: str, value: Any) -> str:
    """Say why a value is none of its kind; "" when it is one."""
    given = f"{setting} is {value!r}" if value is not None else f"{setting} has no value"
    if kind == "dict":  # tokens are kept there
        given = f"{setting} is no mapping"
    # The first of a hundred, where a host's workers have one each.
    last = 65436 if setting.startswith("dask_worker_") else 65535
    if kind == "bool":
        right, wanted = is_bool(value), "true or false"
    elif setting.endswith("_port"):
        right, wanted = is_number(value, whole=True) and 1 <= int(value) <= last, f"a port, from 1 to {last}"
    elif kind in ("int", "float"):
        right, wanted = is_number(value, whole=kind == "int"), "a whole number" if kind == "int" else "a number"
    elif kind == "list":
        right = isinstance(value, (list, tuple)) and all(isinstance(one, (str, int)) for one in value)
        wanted = f"""a list, as -e '{{"{setting}": ["one", "two"]}}'"""
    elif kind == "dict":
        right, wanted = hasattr(value, "items"), f"""pairs, as -e '{{"{setting}": {{"NAME": "value"}}}}'"""
    elif setting in SIZES:
        right, wanted = mebibytes(value) is not None, "an amount of memory, as 512m or 2g"
    elif setting == "dask_worker_scratch":
        right, wanted = str(value).startswith("/"), "the whole path of a folder, as /mnt/disk"
    else:
        right, wanted = isinstance(value, (str, int, float)), "a text"
    return "" if right else f"{given}: set it to {wanted}"


def is_bool(value: Any) -> bool:
    """Tell whether this is a truth value, or a word for one."""
    return isinstance(value, bool) or str(value).lower() in BOOLEANS


def is_number(value: Any, *, whole: bool) -> bool:
    """Tell whether this is a number that is finite and not below zero, or a word for one."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return math.isfinite(number) and number >= 0 and (not whole or bool(re.fullmatch(r"\s*\+?\d+\s*", str(value))))


def mebibytes(size: Any) -> int | None:
    """Give the whole MiB of an amount of memory in Docker's words, as 1g, 512m or 1073741824; None when it is none."""
    words = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(size).lower())
    return math.ceil(float(words[1]) * BYTES[words[2]] / 2**20) if words else None


def memory_of_jobs(memory: str, at_once: Any) -> int:
    """Give the MiB of the jobs service, by what each of the jobs may use that it runs at a time."""
    return int(at_once) * (mebibytes(memory) or 0) + JOBS_SERVICE


def memory_beside_workers(settings: Mapping[str, Any], services: Iterable[str], people: int) -> int:
    """Give the MiB that a host's services may use beside its workers.

    The scheduler, programs of jobs, in the jobs service or at somebody's terminal, the gateway, and a notebook for each
    person.

    Parameters
    ----------
    settings
        Those of the host; what is no amount of memory is refused elsewhere.
    services
        What runs there.
    people
        How many have notebooks.
    """
    if "scheduler" not in services:
        return 0
    size = {name: mebibytes(value) or 0 for name, value in settings.items() if name in SIZES}
    programs = max(
        size["dask_scheduler_workload_memory"], memory_of_jobs(settings["jobs_memory"], settings["jobs_at_once"])
    )
    return size["dask_scheduler_memory"] + programs + GATEWAY + people * size["notebook_memory"]


def words(options: str) -> list[str] | None:
    """Cut options into words, as a shell does; None where a quotation has no end."""
    try:
        return shlex.split(options)
    except ValueError:
        return None


def worker_scratch(folder: str) -> str:
    """Give the folder of ours in one of the owner's; what is in our own folder already is ours."""
    whole = "/" + "/".join(part for part in folder.split("/") if part)
    return whole if whole.startswith(OF_OURS) else f"{whole.rstrip('/')}/tritoncluster-scratch"
