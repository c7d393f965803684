"""The job on some machines: how it went, who disturbed it, and how fast each machine was."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tritoncluster.balance import Summary
from tritoncluster.record import Record
from tritoncluster.scale.machines import Machine, names_of

#: Of a step's time: when others' tasks took more than this of it, figures are disturbed.
DISTURBED = 0.02
#: Seconds after the others from which on a worker is late.
LATE = 1.0


@dataclass(frozen=True)
class Step:
    """The job on some machines.

    Parameters
    ----------
    machines
        Which.
    record
        How it went.
    """

    machines: Sequence[Machine]
    record: Record

    @property
    def threads(self) -> int:
        """Of all its workers."""
        return sum(machine.threads for machine in self.machines)

    @property
    def memory_bytes(self) -> int:
        """Of all its workers; 0 where one has no limit."""
        limits = [machine.memory_bytes for machine in self.machines]
        return sum(limits) if all(limits) else 0

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

    @cached_property
    def others_seconds(self) -> float:
        """What other people's tasks took meanwhile on the cluster, as far as they can be told apart.

        On the step's own workers that is the longer of two figures: what the scheduler tells of tasks of other names
        that have ended, and what the workers themselves saw of others, which also run the same job.
        """
        workers = names_of(self.machines)
        own = {part.name for part in self.record.balance}
        told, seen = defaultdict[str, float](float), defaultdict[str, float](float)
        for span in self.record.spans:
            if span.action == "compute" and (span.worker not in workers or not _is_own(span.task, own)):
                told[span.worker] += max(0.0, min(span.stop, self.record.seconds) - max(span.start, 0.0))
        for part in self.record.balance:
            for name, share in part.shares.items():
                seen[name] += share.others
        return math.fsum(max(told[name], seen[name]) for name in {*told, *seen})

    @property
    def away(self) -> list[str]:
        """Names of the machines that were not there, or did not answer, for a part of the time."""
        return [
            machine.name
            for machine in self.machines
            if any(_was_away(part, worker) for part in self.record.balance for worker in machine.workers)
        ]

    @property
    def crowded(self) -> bool:
        """Whether others' tasks took so long that the figures say less."""
        return self.others_seconds > DISTURBED * self.record.seconds * self.threads

    @property
    def disturbed(self) -> bool:
        """Whether the figures say less, be it for others or because a machine was away."""
        return self.crowded or bool(self.away)


def rates_of(machines: Sequence[Machine], steps: Sequence[Step]) -> tuple[dict[str, float], set[str]]:
    """Say how fast each machine is, in the part of the work that takes longest.

    Parameters
    ----------
    machines, steps
        Which, and where they worked: the last one counts that nobody disturbed, if there is any. It is the one on most
        machines, and those of one host have less to themselves there.

    Returns
    -------
    dict of str to float
        Machine -> its part of the summed rates, between 0 and 1. Those that did nothing are missing.
    set of str
        Of these the ones that worked in disturbed steps alone.
    """
    seconds = defaultdict[str, float](float)
    for step in steps:
        for part in step.record.balance:
            seconds[part.name] += part.seconds
    longest = max(seconds, key=lambda name: seconds[name], default="")
    rates, uncertain = {}, set()
    for machine in machines:
        found = [(step, rate) for step in steps if (rate := _rate(step, machine, longest))]
        sound = [rate for step, rate in found if not step.disturbed]
        if found:
            rates[machine.name] = sound[-1] if sound else found[-1][1]
            if not sound:
                uncertain.add(machine.name)
    whole = math.fsum(rates.values())
    return {name: rate / whole for name, rate in rates.items()}, uncertain


def _rate(step: Step, machine: Machine, part: str) -> float:
    """Give calls a second of a machine in the parts of that name; 0 when it made none.

    A worker that made none by chance is as fast as the others of its host.
    """
    shares = [
        (worker, each.shares[worker])
        for worker in machine.workers
        for each in step.record.balance
        if each.name == part and worker in each.shares
    ]
    busy, work = defaultdict[str, float](float), defaultdict[str, float](float)
    threads = {worker: share.threads for worker, share in shares}
    for worker, share in shares:
        busy[worker] += share.busy
        work[worker] += share.work
    known = [worker for worker in threads if busy[worker]]
    rate = math.fsum(threads[worker] * work[worker] / busy[worker] for worker in known)
    return rate * sum(threads.values()) / sum(threads[worker] for worker in known) if known else 0.0


def _was_away(part: Summary, worker: str) -> bool:
    share = part.shares.get(worker)
    if share is None or share.silent or any(end is not None for _, end in share.presence):
        return True
    begin = min(each.presence[0][0] for each in part.shares.values())
    return share.presence[0][0] - begin > LATE


def _is_own(task: str, names: set[str]) -> bool:
    # What the queue sends besides: shared arguments, and the stops of chunks.
    return task in names or task.startswith("~") or task == "stop"
