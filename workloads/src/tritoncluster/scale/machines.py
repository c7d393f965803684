"""The machines of a cluster: its workers by host."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from distributed import Client

from tritoncluster import nodes

#: In a worker's environment: its part of what its host draws at work, in watts.
WATTS = "WORKER_WATTS"


@dataclass(frozen=True)
class Machine:
    """A host with its workers, or one worker where all are on the same host.

    Parameters
    ----------
    name
        Of its worker, or of the host where it has several.
    workers
        Their names.
    threads, memory_bytes
        Of all of them; no memory where one has no limit.
    watts
        What it draws at work; 0 where nobody said.
    """

    name: str
    workers: frozenset[str]
    threads: int
    memory_bytes: int
    watts: float = 0.0


def machines_of(client: Client, names: frozenset[str]) -> list[Machine]:
    """Group the workers of these names by host; where all are on one, each is a machine of its own."""
    hosts: dict[str, list[nodes.Worker]] = {}
    for worker in nodes.workers(client):
        if worker.dask_name in names:
            hosts.setdefault(urlsplit(worker.address).hostname or worker.address, []).append(worker)
    # A function of the standard library's: nothing has to be installed there for it.
    asked = [worker.address for workers in hosts.values() for worker in workers]
    watts = {address: _watts(said) for address, said in nodes.ask_workers(client, asked, os.getenv, WATTS).items()}
    groups = [*hosts.items()]
    if len(groups) == 1:
        groups = [(worker.name, [worker]) for worker in groups[0][1]]
    found = []
    for host, group in groups:
        limits = [worker.memory_limit for worker in group]
        powers = [watts[worker.address] for worker in group]
        found.append(
            Machine(
                host if len(group) > 1 else group[0].name,
                frozenset(worker.dask_name for worker in group),
                sum(worker.threads for worker in group),
                sum(limits) if all(limits) else 0,
                math.fsum(powers) if all(powers) else 0.0,
            )
        )
    return sorted(found, key=lambda machine: machine.name)


def _watts(said: Any) -> float:
    """Read a worker's part of what its host draws; 0 where it has none, or none that makes sense."""
    try:
        watts = float(said)
    except (TypeError, ValueError):
        return 0.0
    return watts if 0 < watts < math.inf else 0.0


def names_of(machines: Sequence[Machine]) -> frozenset[str]:
    """Give the names of the machines' workers."""
    return frozenset[str]().union(*(machine.workers for machine in machines))
