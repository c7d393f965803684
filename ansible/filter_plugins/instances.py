"""Ansible filters: what each container of a service has of its own, by the container's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOMES = "/var/lib/tritoncluster/notebooks"
#: Where the gateway finds them, as the folder of a person's name; a container has but its own.
SOCKETS = "/var/lib/tritoncluster/notebook-sockets"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"worker_instances": workers, "notebook_instances": notebooks, "notebook_folders": folders}


def workers(
    names: Iterable[str], ports: Mapping[str, Any], environment: Mapping[str, Any], tags: Iterable[str], threads: int
) -> dict[str, dict[str, Any]]:
    """Give container -> what its compose service has, for a host's workers.

    Parameters
    ----------
    names
        The workers' names.
    ports
        Those of the first: `worker`, `nanny` and `http`; the next one's are one higher.
    environment
        What the owner wants to be there.
    tags
        Dask resources of which each has as many as threads.
    """
    found = {}
    for number, name in enumerate(names):
        worker, nanny, http = (str(int(ports[kind]) + number) for kind in ("worker", "nanny", "http"))
        own = {"WORKER_NAME": name, "WORKER_PORT": worker, "WORKER_NANNY_PORT": nanny}
        own |= {"WORKER_HTTP_PORT": http, "HEALTH_PORT": http}
        own |= {f"DASK_DISTRIBUTED__WORKER__RESOURCES__{tag.upper()}": str(threads) for tag in tags}
        found[f"worker-{number + 1}" if number else "worker"] = {"environment": {**environment, **own}}
    return found


def notebooks(people: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Give container -> what its compose service has, for a notebook of each person; `client` is everybody else."""
    socket = "/run/notebooks/socket"
    return {
        f"notebook-{person}": {
            "environment": {"NOTEBOOK_SOCKET": socket, "HEALTH_SOCKET": socket},
            "volumes": [
                f"/etc/tritoncluster/{'client' if person == 'client' else f'people/{person}'}:/run/tls:ro",
                f"{HOMES}/{person}:/work",
                f"{SOCKETS}/{person}:/run/notebooks",
            ],
        }
        for person in people
    }


def folders(people: Iterable[str]) -> list[dict[str, str]]:
    """Give the folders that these want, with owner and mode."""
    wanted = [(HOMES, "0700")]
    for person in people:
        wanted += [(f"{HOMES}/{person}", "0700"), (f"{SOCKETS}/{person}", "0755")]
    return [{"path": path, "owner": "tritoncluster", "mode": mode} for path, mode in wanted]
