"""Ansible filters: which port is for what, and whom a firewall lets in to it."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Service -> settings of its ports, and what each is for.
PORTS = {
    "scheduler": {"dask_scheduler_port": "the scheduler"},
    "gateway": {"gateway_port": "the dashboard", "gateway_health_port": "the dashboard's health check"},
    "registry": {"registry_port": "the registry"},
    "worker": {
        "dask_worker_port": "the worker",
        "dask_worker_nanny_port": "the worker's nanny",
        "dask_worker_http_port": "the worker's HTTP",
    },
}
#: Those that a firewall lets in: from the cluster's hosts, and where that is true, from clients.
OPEN = {
    "dask_scheduler_port": True,
    "gateway_port": True,
    "registry_port": False,
    "dask_worker_port": False,
    "dask_worker_nanny_port": False,
}
#: For a worker's processes: each has a port of its own, one after the other.
PROCESSES = 100
#: The time's, which nobody chooses.
CLOCK = {"protocol": "udp", "ports": ["123"]}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {
            "ports_clashes": clashes,
            "ports_of": of,
            "ports_openings": openings,
            "ports_rules": rules,
            "ports_settings": settings_of,
        }


def settings_of(services: Iterable[str]) -> list[str]:
    """List the settings of the services' ports."""
    return [name for service in services for name in PORTS.get(service, {})]


def of(services: Iterable[str], settings: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """Give service -> a port, what it is for and the setting that moves it, of each.

    Parameters
    ----------
    services
        Those of a host.
    settings
        Setting -> number, of all ports.
    """
    return {
        service: [[int(settings[name]), purpose, name] for name, purpose in PORTS.get(service, {}).items()]
        for service in services
    }


def clashes(services: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Give a line for each two settings of a host that have a port in common, for what `of` takes."""
    found = []
    for one, other in combinations([port[2] for ports in of(services, settings).values() for port in ports], 2):
        common = {*_range(one, settings)} & {*_range(other, settings)}
        if common:
            found.append(f"{one} and {other} both have port {min(common)}: set one of them to another")
    return found


def openings(
    services: Iterable[str], settings: Mapping[str, Any], hosts: Iterable[str], clients: Iterable[str]
) -> list[dict[str, Any]]:
    """Give source, protocol and ports, as 8800-8899, of what a firewall has to let through to a host.

    Parameters
    ----------
    services, settings
        As for `of`; a host that gives the others the time has the service `clock`.
    hosts
        Addresses of the cluster's hosts.
    clients
        Networks in which there are clients.
    """
    its = list(services)
    known = [name for service in PORTS if service in its for name in PORTS[service] if name in OPEN]

    def ports(names: Iterable[str]) -> list[str]:
        ranges = [_range(name, settings) for name in names]
        return [f"{each[0]}-{each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges]

    peers = list(hosts)
    for_clients = [name for name in known if OPEN[name]]
    sources = [(host, known) for host in peers] + [(one, for_clients) for one in clients if one not in peers]
    found = [{"source": source, "protocol": "tcp", "ports": ports(names)} for source, names in sources if names]
    if "clock" in its:
        found += [{"source": host, **CLOCK} for host in peers]
    return found


def rules(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give openings in ufw's words."""
    return [{**opening, "ports": ",".join(opening["ports"]).replace("-", ":")} for opening in found]


def _range(setting: str, settings: Mapping[str, Any]) -> range:
    first = int(settings[setting])
    return range(first, first + (PROCESSES if setting in PORTS["worker"] else 1))
