"""Ansible filters: which hosts have been deployed to, as the certificates' folder knows, and how to reach them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What says how to reach a host, and is no secret.
CONNECTION = (
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_connection",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_private_key_file",
    "ansible_python_interpreter",
    "ansible_become_exe",
    "ansible_become_method",
)
#: What says where things of ours are on a host.
PLACES = ("dask_worker_scratch", "node_board", "raspberry_pi_boot")
RECORD = "host.json"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {
            "members_departed": departed,
            "members_record": record,
            "members_recorded": recorded,
            "members_seen_to": seen_to,
            "members_workers": workers,
            "members_workers_of": workers_of,
        }


def departed(folder: str, hosts: list[str]) -> list[str]:
    """List the hosts that have certificates in the folder, and are not in the inventory."""
    return sorted(path.parent.name for path in Path(folder).glob("hosts/*/tls.crt") if path.parent.name not in hosts)


def workers(host: str, processes: int) -> list[str]:
    """Name the workers of a host, by how many it has."""
    return [host] if processes == 1 else [f"{host}-{number + 1}" for number in range(processes)]


def seen_to(groups: Mapping[str, list[str]], variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the workers that a run has seen to, by its groups and Ansible's `hostvars`."""
    hosts = [host for found in ("same", "start", "replace") for host in groups.get(f"worker_{found}", [])]
    return [worker for host in hosts for worker in workers(host, int(variables[host].get("dask_worker_processes", 1)))]


def workers_of(folder: str, names: list[str]) -> list[str]:
    """Name the workers of hosts that need not be in the inventory."""
    return [worker for name in names for worker in recorded(folder, name)["workers"]]


def record(variables: Mapping[str, Any], address: str, services: list[str], workers: list[str]) -> dict[str, Any]:
    """Give what has to be known of a host when it is no longer in the inventory.

    Parameters
    ----------
    variables
        Those of the host, as Ansible's `hostvars` has them.
    address
        Where the others reach it.
    services
        What runs on it.
    workers
        Names of its workers.
    """
    settings = {name: str(variables[name]) for name in (*CONNECTION, *PLACES) if name in variables}
    return {"settings": settings, "address": address, "services": services, "workers": workers}


def recorded(folder: str, name: str) -> dict[str, Any]:
    """Give the record of a host; what an earlier version left, which wrote none, has its name alone."""
    try:
        return json.loads(Path(folder, "hosts", name, RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"settings": {}, "address": "", "services": [], "workers": [name]}
