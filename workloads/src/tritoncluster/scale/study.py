"""Running a job on growing sets of machines, some of which may be lost on the way."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

from distributed import Client

from tritoncluster import nodes
from tritoncluster.balance import only_workers
from tritoncluster.errors import InputError, NoWorkersError, WorkersLostError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.record import Worker, describe_workers, measure
from tritoncluster.scale.machines import Machine, machines_of, names_of
from tritoncluster.scale.scaling import Scaling
from tritoncluster.scale.steps import Step, rates_of
from tritoncluster.versions import name_some

#: Steps when none are asked for; of more machines, some are added together.
MAX_STEPS = 8
#: Seconds for a machine to come back, as after a worker's restart, before the study goes on without it.
COMES_BACK = 30.0
#: Seconds between two looks at whether it has.
LOOK = 1.0
#: Why most are lost.
GONE = "it no longer answers"

logger = logging.getLogger(__name__)


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

    That one lets workers import what they need, and tells which machine is how fast. A machine that is lost on the way,
    or hangs, is left out from then on, and the step is done again without it. What ends the study after a first step,
    Ctrl-C for one, is in `Scaling.stopped`.

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
    BaseException
        What ended the first step.
    """
    started = datetime.now(UTC)
    workers = describe_workers(client) if workers is None else workers
    machines = machines_of(client, frozenset(worker.name for worker in workers if worker.responding))
    counts = _counts(steps, len(machines))
    study = _Study(client, job, machines, workers)
    stopped = None
    try:
        study.run(counts, alone=alone, progress=progress)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, InputError) or not study.measured:
            raise
        stopped = error
    rates, uncertain = rates_of(study.machines, study.measured)
    return Scaling(
        job.name,
        asdict(job),  # type: ignore[call-overload]  # a protocol can't say that it is a dataclass
        started,
        study.machines,
        study.growing or study.alone[:1],  # as good as a set of one, when no more came
        study.alone,
        rates,
        study.left_out,
        frozenset(uncertain),
        stopped,
    )


class _Study:
    """Steps of a job.

    Attributes
    ----------
    machines : list of Machine
        From the slowest to the fastest, as far as that is known.
    growing, alone : list of Step
        What counts.
    left_out : dict of str to str
        Machines that were lost, and why.
    """

    def __init__(self, client: Client, job: Job, machines: list[Machine], workers: Sequence[Worker]) -> None:
        self._client, self._job, self._workers = client, job, workers
        self.machines = machines
        self.growing: list[Step] = []
        self.alone: list[Step] = []
        self.left_out: dict[str, str] = {}

    @property
    def measured(self) -> list[Step]:
        """All steps that count."""
        return [*self.alone, *self.growing]

    def run(self, counts: Sequence[int], *, alone: bool, progress: Progress) -> None:
        """Do all that is asked for; steps are kept as they are done."""
        singles = len(self.machines) if alone else 0
        total = 1 + singles + len(counts)
        progress("runs", 0, total)
        self._sort(self._on(self._left, again=False))
        for done, machine in enumerate(self.machines[:singles], 1):
            progress("runs", done, total)
            self.alone += self._on(partial(self._only, machine))
        if self.alone:
            self._sort(self.alone)
        for done, count in enumerate(counts, 1 + singles):
            progress("runs", done, total)
            step = self._on(partial(self._slowest, count))
            # Without those that were lost it may be one that was done before.
            self.growing += [each for each in step if not any(each is known for known in self.growing)]
        progress("runs", total, total)

    def _sort(self, steps: Sequence[Step]) -> None:
        rates, _ = rates_of(self.machines, steps)
        # One that got nothing was too slow to get any.
        self.machines.sort(key=lambda machine: rates.get(machine.name, 0.0))
        self.alone.sort(key=lambda step: self.machines.index(step.machines[0]))

    def _left(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.name not in self.left_out]

    def _slowest(self, count: int) -> list[Machine]:
        return self._left()[:count]

    def _only(self, machine: Machine) -> list[Machine]:
        return [] if machine.name in self.left_out else [machine]

    def _on(self, choose: Callable[[], list[Machine]], *, again: bool = True) -> list[Step]:
        """Do the job on the machines that `choose` gives, again if one is lost meanwhile; nothing when none is left.

        What was measured of the same machines before is as good.
        """
        failure: BaseException | None = None
        while some := choose():
            self._leave_out_silent(some)
            if choose() == some:
                if known := [step for step in self.measured if list(step.machines) == some]:
                    return known[:1]
                with only_workers(names_of(some), silence=COMES_BACK):
                    step = Step(some, measure(self._client, self._job, workers=self._workers))
                self._leave_out_lost(step)
                failure, whole = step.record.stopped, choose() == some
                if failure and whole:
                    raise failure
                if not failure and (whole or not again):
                    return [step]
        if not self._left():
            raise failure or NoWorkersError("no machine is left that answers; see whether they hang")
        return []

    def _leave_out_lost(self, step: Step) -> None:
        """Leave out the machines that did not get through a step."""
        match step.record.stopped:
            case WorkersLostError():
                self._leave_out(step.away, "its workers died of the work")
            case NoWorkersError():
                there = self._answering(step.machines)
                for machine in step.machines:
                    self._leave_out([machine.name], "it took no work" if machine.workers <= there else GONE)
            case None:
                self._leave_out_silent(step.machines)

    def _leave_out_silent(self, machines: Sequence[Machine]) -> None:
        """Leave out those whose workers are gone or do not answer, after a while in which they may come back."""
        begin = time.monotonic()
        waits = False
        while gone := [machine.name for machine in machines if not machine.workers <= self._answering(machines)]:
            if time.monotonic() - begin > COMES_BACK:
                self._leave_out(gone, GONE)
                return
            if not waits:
                logger.warning("%s: no answer; waiting %g s", name_some(tuple(gone)), COMES_BACK)
            waits = True
            time.sleep(LOOK)

    def _answering(self, machines: Sequence[Machine]) -> frozenset[str]:
        """Give the names of those of the machines' workers that are there and answer."""
        names = names_of(machines)
        known = {worker.address: worker for worker in nodes.workers(self._client) if worker.dask_name in names}
        # A function of the standard library's: nothing has to be installed there for it.
        answers = nodes.ask_workers(self._client, known, os.getpid)
        return frozenset(known[address].dask_name for address, said in answers.items() if isinstance(said, int))

    def _leave_out(self, names: Iterable[str], reason: str) -> None:
        for name in names:
            logger.warning("%s: left out from here on, since %s", name, reason)
            self.left_out[name] = reason


def _counts(steps: Sequence[int], machines: int) -> list[int]:
    if not steps:
        few = min(MAX_STEPS, machines)
        return sorted({round(1 + (machines - 1) * place / max(1, few - 1)) for place in range(few)})
    if max(steps) > machines:
        raise InputError(f"--steps: there are {machines} machines, not {max(steps)}; write numbers up to {machines}")
    return sorted(set(steps))
