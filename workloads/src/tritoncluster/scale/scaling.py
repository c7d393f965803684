"""What came out of a study: its steps side by side, and what they say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from tritoncluster.record import plain
from tritoncluster.scale.machines import Machine
from tritoncluster.scale.steps import Step

#: Seconds of a step below which what happens by chance is most of it.
SHORT = 1.0
#: Times as fast as the next machine is one that should have come after it.
FASTER = 1.25


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
        On growing sets of them, at least one.
    alone
        On each of them alone, in the same order; empty if that was not asked for.
    rates
        For each machine that worked its part of the summed rates when all work, between 0 and 1.
    left_out
        Machines that were lost on the way -> why, as in "it no longer answers"; later steps are without them.
    uncertain
        Machines whose rates are from steps that were disturbed.
    stopped
        Why it ended before all steps were done, None when it did not.
    """

    job: str
    parameters: dict[str, Any]
    started: datetime
    machines: Sequence[Machine]
    steps: Sequence[Step]
    alone: Sequence[Step]
    rates: Mapping[str, float]
    left_out: Mapping[str, str] = field(default_factory=dict)
    uncertain: frozenset[str] = frozenset()
    stopped: BaseException | None = None

    @property
    def one_machine(self) -> float | None:
        """Seconds of the fastest machine alone, None if that was not measured."""
        steps = self.alone or (self.steps if len(self.machines) == 1 else ())
        return min((step.record.seconds for step in steps), default=None)

    @property
    def runs(self) -> list[Step]:
        """All steps, each once: the slowest machine alone may be the first of the growing sets, too."""
        return [*{id(step): step for step in (*self.steps, *self.alone)}.values()]

    def rate_of(self, machines: Sequence[Machine]) -> float | None:
        """Sum the machines' parts of the rates; None where that of one is not known."""
        rates = [self.rates.get(machine.name) for machine in machines]
        return None if None in rates else math.fsum(rate for rate in rates if rate)

    @property
    def verdict(self) -> str:
        """What the last machines brought, and why; then what was left out, and what makes this say less."""
        after = self.steps[-1]
        smaller = [step for step in self.steps[:-1] if set(step.machines) < set(after.machines)]
        if not smaller:
            if self.left_out:
                found = "No two steps compare, since machines were lost on the way; run it again."
            elif self.stopped:
                found = "It stopped before there were two steps to compare."
            else:
                found = "There is one step, so nothing to compare; add a machine, or write --steps 1,2."
            return " ".join([found, *self._lost()])
        return " ".join([self._brought(smaller[-1], after), *self._lost(), *_doubts(self, smaller[-1], after)])

    def _brought(self, before: Step, after: Step) -> str:
        added = [machine for machine in after.machines if machine not in before.machines]
        who = " and ".join(machine.name for machine in added) if len(added) < 3 else f"The last {len(added)} machines"
        threads = sum(machine.threads for machine in added)
        change = _faster(before.record.seconds / after.record.seconds)
        text = f"{who} with {threads} thread{'' if threads == 1 else 's'} made the work {change}"
        there, more = self.rate_of(before.machines), self.rate_of(added)
        if not there or more is None:
            return f"{text}."
        return f"{text}; by the rates of the machines themselves it could have been {_faster(1 + more / there)}."

    def _lost(self) -> list[str]:
        return [f"{name} was left out on the way: {reason}." for name, reason in self.left_out.items()]

    @property
    def worth(self) -> dict[str, float]:
        """Machine -> its rate a watt, as a part of the best one's; those whose watts and rate are known."""
        found = {
            each.name: self.rates[each.name] / each.watts
            for each in self.machines
            if each.watts and each.name in self.rates
        }
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
                "seconds": math.fsum(step.record.seconds for step in self.runs),
                "finished": self.stopped is None,
                "cluster": {"address": last.address, "workers": [asdict(worker) for worker in last.workers]},
                "versions": last.versions,
                "result": {
                    "steps": [self._step(step) for step in self.steps],
                    "alone": [self._step(step) for step in self.alone],
                    "machines": [
                        {
                            "name": machine.name,
                            "rate": self.rates.get(machine.name),
                            "uncertain": machine.name in self.uncertain,
                            "watts": machine.watts or None,
                            "rate_a_watt": worth.get(machine.name),
                            "left_out": self.left_out.get(machine.name),
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
            "memory_bytes": step.memory_bytes,
            "seconds": step.record.seconds,
            "speed_up": self.steps[0].record.seconds / step.record.seconds,
            "speed_up_to_one_machine": alone and alone / step.record.seconds,
            "efficiency": step.efficiency,
            "joules": step.joules,
            "others_seconds": step.others_seconds,
            "away": step.away,
        }


def _faster(ratio: float) -> str:
    if ratio >= 2:
        return f"{ratio:.1f} times as fast"
    return f"{ratio - 1:.0%} faster" if ratio >= 1 else f"{1 / ratio - 1:.0%} slower"


def _doubts(scaling: Scaling, before: Step, after: Step) -> list[str]:
    """Say what makes a comparison of two steps say less."""
    found = []
    if any(step.crowded for step in (before, after)):
        found.append("Others used the cluster meanwhile, so this says less.")
    elif scaling.uncertain & {machine.name for machine in after.machines}:
        found.append("Others disturbed each step in which a rate was measured, so what could have been is uncertain.")
    if away := dict.fromkeys([*before.away, *after.away]):
        found.append(f"{' and '.join(away)} could not be reached for a while, so this says less.")
    rates = [rate for each in after.machines if (rate := scaling.rates.get(each.name)) is not None]
    if not scaling.alone and any(rate > FASTER * following for rate, following in pairwise(rates)):
        found.append("The machines are in the order of a first run; by their rates since, it is another one.")
    if after.record.seconds < SHORT:
        found.append("The work is done so soon that chance is most of this; try a larger size.")
    return found
