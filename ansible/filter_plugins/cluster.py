"""Ansible filters: what runs on which of the cluster's hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: What the scheduler's host has always. The workload is no service that runs: somebody's command starts it.
OF_SCHEDULER = ("scheduler", "jobs", "gateway", "registry")
#: Service -> its image. Where there are notebooks, they are jobs, too.
IMAGES = {"scheduler": "node", "jobs": "node", "gateway": "gateway", "notebook": "notebook", "worker": "node"}
#: What leaves files on a host, in the order in which it ends there.
ENDING = ("notebook", "jobs", "worker", "gateway", "workload", "scheduler", "registry")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"services_of": services, "services_images": images, "services_to_end": to_end}


def services(host: str, groups: Mapping[str, Collection[str]], clock: str, *, notebooks: bool) -> list[str]:
    """List what runs on a host.

    Parameters
    ----------
    host
        Its name.
    groups
        Those of the inventory.
    clock
        The setting clock_server.
    notebooks
        Whether there are any.
    """
    found = []
    if host in groups["scheduler"]:
        found += [*OF_SCHEDULER, *(["notebook"] if notebooks else [])]
    if host in groups["workers"]:
        found.append("worker")
    if host in groups["scheduler"] and clock == "scheduler":
        found.append("clock")
    return found


def images(services: Collection[str], names: Mapping[str, str], *, notebooks: bool) -> dict[str, str]:
    """Give service -> the image that it is to run, of those of a host that are containers.

    Parameters
    ----------
    services
        What runs there.
    names
        Image -> its name, by digest.
    notebooks
        Whether there are any.
    """
    wanted = IMAGES | ({"jobs": "notebook"} if notebooks else {})
    return {service: names[image] for service, image in wanted.items() if service in services}


def to_end(there: Collection[str], wanted: Collection[str]) -> list[str]:
    """List what of ours is on a host and should not be, in the order in which it ends."""
    stays = {*wanted, *(("workload", "jobs") if "scheduler" in wanted else ())}
    return [service for service in ENDING if service in there and service not in stays]
