"""The same job on growing sets of the cluster's machines: what each of them brings.

The set grows from the slowest machine to all, as in the study of the poster. Workers that are left out get neither
calls nor data.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from distributed import Client

from tritoncluster import nodes
from tritoncluster.balance import only_workers
from tritoncluster.errors import InputError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.record import Record, Worker, describe_workers, measure, plain

#: Steps when none are asked for; of more machines, some are added together.
MAX_STEPS = 8
#: Of a step's time: when others' tasks took more than this of it, figures are disturbed.
DISTURBED = 0.02
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


@dataclass(frozen=True)
class Step:
    """The job on some machines.

    Parameters
    ----------
    machines
        Which.
    record
        How it went.
    others_seconds
        What other people's tasks took meanwhile on the cluster, as far as they can be told apart.
    """

    machines: Sequence[Machine]
    record: Record
    others_seconds: float = 0.0

    @property
    def threads(self) -> int:
        """Of all its workers."""
        return sum(machine.threads for machine in self.machines)

    @property
    def joules(self) -> float | None:
        """What its machines draw while they work; None where nobody said that of all."""
        watts = [machine.watts for machine in self.machines]
        return math.fsum(watts) * self.record.seconds if all(watts) else None

    @property
    def efficiency(self) -> float | None:
        """The rate of all by the sum of the workers' own rates, in the part of the work that took longest."""
        parts = [part for part in self.record.balance if part.efficiency is not None]
        return max(parts, key=lambda part: part.seconds).efficiency if parts else None

    @property
    def disturbed(self) -> bool:
        """Whether others' tasks took so long that the figures say less."""
        return self.others_seconds > DISTURBED * self.record.seconds * self.threads


@dataclass(frozen=True)
class Scaling:
    """What `scale` measured.

    Parameters
    ----------
    job, parameters, started
        Its name, its options, and when, UTC.
    machines
        From the slowest to the fastest.
    steps
        On growing sets of them.
    alone
        On each of them alone, in the same order; empty if that was not asked for.
    rates
        For each machine its part of the summed rates when all work, between 0 and 1.
    """

    job: str
    parameters: dict[str, Any]
    started: datetime
    machines: Sequence[Machine]
    steps: Sequence[Step]
    alone: Sequence[Step]
    rates: dict[str, float]

    @property
    def one_machine(self) -> float | None:
        """Seconds of the fastest machine alone, None if that was not measured."""
        singles = [step for step in (*self.alone, *self.steps) if list(step.machines) == [self.machines[-1]]]
        return min((step.record.seconds for step in singles), default=None)

    @property
    def verdict(self) -> str:
        """One sentence on what the last machines brought, and why."""
        if len(self.steps) < 2:
            return "There is one step, so nothing to compare; add a machine, or write --steps 1,2."
        before, after = self.steps[-2:]
        added = [machine for machine in after.machines if machine not in before.machines]
        who = " and ".join(machine.name for machine in added) if len(added) < 3 else f"The last {len(added)} machines"
        brought = before.record.seconds / after.record.seconds - 1
        there = math.fsum(self.rates[machine.name] for machine in before.machines)
        possible = math.fsum(self.rates[machine.name] for machine in added) / there if there else 0.0
        threads = sum(machine.threads for machine in added)
        change = f"{abs(brought):.0%} {'faster' if brought >= 0 else 'slower'}"
        text = f"{who} with {threads} thread{'' if threads == 1 else 's'} made the work {change}"
        return f"{text}; by the rates of the machines themselves it could have been {possible:.0%} faster."

    @property
    def worth(self) -> dict[str, float]:
        """Machine -> its rate a watt, as a part of the best one's; those whose watts are known."""
        found = {each.name: self.rates[each.name] / each.watts for each in self.machines if each.watts}
        best = max(found.values(), default=0.0)
        return {name: each / best if best else 0.0 for name, each in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Give the content of `result.json`."""
        last, worth = self.steps[-1].record, self.worth
        return plain(
            {
                "job": f"scale {self.job}",
                "parameters": self.parameters,
                "started": self.started.isoformat(timespec="seconds"),
                "seconds": math.fsum(step.record.seconds for step in (*self.steps, *self.alone)),
                "finished": True,
                "cluster": {"address": last.address, "workers": [asdict(worker) for worker in last.workers]},
                "versions": last.versions,
                "result": {
                    "steps": [self._step(step) for step in self.steps],
                    "alone": [self._step(step) for step in self.alone],
                    "machines": [
                        {
                            "name": machine.name,
                            "rate": self.rates[machine.name],
                            "watts": machine.watts or None,
                            "rate_a_watt": worth.get(machine.name),
                        }
                        for machine in self.machines
                    ],
                    "verdict": self.verdict,
                },
            }
        )

    def _step(self, step: Step) -> dict[str, Any]:
        alone = self.one_machine
        return {
            "machines": [machine.name for machine in step.machines],
            "workers": sum(len(machine.workers) for machine in step.machines),
            "threads": step.threads,
            "memory_bytes": memory_of(step.machines),
            "seconds": step.record.seconds,
            "speed_up": self.steps[0].record.seconds / step.record.seconds,
            "speed_up_to_one_machine": alone and alone / step.record.seconds,
            "efficiency": step.efficiency,
            "joules": step.joules,
            "others_seconds": step.others_seconds,
        }


def scale(
    client: Client,
    job: Job,
    steps: Sequence[int] = (),
    *,
    alone: bool = False,
    progress: Progress = silent,
    workers: Sequence[Worker] | None = None,
) -> Scaling:
    """Run `job` on growing sets of the cluster's machines, after a run on all that is not counted.

    That one lets workers import what they need, and tells which machine is how fast.

    Parameters
    ----------
    client, job
        Where, and what.
    steps
        Numbers of machines; by default one more at each step.
    alone
        Whether each machine does the work by itself, too.
    progress
        Told of the runs.
    workers
        What `describe_workers` gave, if it was called before. Those that do not answer take no part.

    Raises
    ------
    InputError
        When there are fewer machines than a step asks for.
    """
    started = datetime.now(UTC)
    workers = describe_workers(client) if workers is None else workers
    machines = machines_of(client, frozenset(worker.name for worker in workers if worker.responding))
    counts = _counts(steps, len(machines))
    total = 1 + len(counts) + (len(machines) if alone else 0)
    done = iter(range(total + 1))

    def on(some: Sequence[Machine]) -> Step:
        progress("runs", next(done), total)
        names = frozenset[str]().union(*(machine.workers for machine in some))
        with only_workers(names):
            record = measure(client, job, workers=workers)
        if record.stopped:
            raise record.stopped
        return Step(some, record, others_seconds(record, names))

    first = on(machines)
    rates = _rates(first.record, machines)
    machines = sorted(machines, key=lambda machine: rates[machine.name])
    singles = [on([machine]) for machine in machines] if alone else []
    growing = [on(machines[:count]) for count in counts]
    progress("runs", total, total)
    record = growing[-1].record
    return Scaling(record.job, record.parameters, started, machines, growing, singles, rates)


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


def memory_of(machines: Sequence[Machine]) -> int:
    """Sum the machines' limits, in bytes; 0 where one has none."""
    limits = [machine.memory_bytes for machine in machines]
    return sum(limits) if all(limits) else 0


def others_seconds(record: Record, workers: frozenset[str]) -> float:
    """Sum what was computed that is not of a run: on workers that were left out, or under another name."""
    own = {part.name for part in record.balance}
    return math.fsum(
        span.stop - span.start
        for span in record.spans
        if span.action == "compute" and (span.worker not in workers or not _is_own(span.task, own))
    )


def _is_own(task: str, names: set[str]) -> bool:
    # What the queue sends besides: shared arguments, and the stops of chunks.
    return task in names or task.startswith("~") or task == "stop"


def _rates(record: Record, machines: Sequence[Machine]) -> dict[str, float]:
    part = max(record.balance, key=lambda each: each.seconds, default=None)
    rates = {
        machine.name: math.fsum((part.shares[name].rate or 0.0) for name in machine.workers if name in part.shares)
        if part
        else 0.0
        for machine in machines
    }
    whole = math.fsum(rates.values())
    return {name: rate / whole if whole else 0.0 for name, rate in rates.items()}


def _counts(steps: Sequence[int], machines: int) -> list[int]:
    if not steps:
        few = min(MAX_STEPS, machines)
        return sorted({round(1 + (machines - 1) * place / max(1, few - 1)) for place in range(few)})
    if max(steps) > machines:
        raise InputError(f"--steps: there are {machines} machines, not {max(steps)}; write numbers up to {machines}")
    return sorted(set(steps))
