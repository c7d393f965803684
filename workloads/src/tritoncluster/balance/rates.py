"""How fast each worker is at the work of one run: measured from what it finished, or known from an earlier run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: After so many items, and so many seconds of work, what was measured before counts half: a worker that gets slower is
#: noticed, one that has a share of a processor and is stopped and started every tenth of a second is not misjudged.
HALF_LIFE_ITEMS, HALF_LIFE_SECONDS = 8.0, 1.0
#: Seconds below which lengths of items are not told apart: a worker with a share of a processor is stopped and started
#: every tenth of a second, and a chunk holds many such items anyway.
SHORT = 0.1


@dataclass
class _Measured:
    work: float = 0.0
    seconds: float = 0.0
    all_seconds: float = 0.0


class Rates:
    """Speeds of workers, in units of work a second for one of the worker's threads.

    Attributes
    ----------
    longest : float
        The length of the longest item, as a multiple of what its cost let expect.
    """

    def __init__(self) -> None:
        self._earlier: dict[str, float] = {}
        self._measured: dict[str, _Measured] = {}
        # Over all measured workers that were known: the work they did, and what they would have done at earlier speed.
        self._did = self._would = 0.0
        # Of items' lengths as multiples of what their costs let expect: number, sum, and sum of squares.
        self._lengths = 0.0, 0.0, 0.0
        self.longest = 0.0

    def know(self, earlier: Mapping[str, float]) -> None:
        """Take in speeds by name of the worker, as `to_remember` gave them in an earlier run.

        Only their ratios are believed: items may be of another size this time, so measurements of this run set the
        scale.
        """
        self._earlier = {name: speed for name, speed in earlier.items() if speed > 0}

    def add(self, name: str, costs: list[float], seconds: list[float], elapsed: float = 0.0) -> None:
        """Take in what worker `name` finished: for each item its cost and how long it took.

        All of it took `elapsed` seconds, as far as that is known: more than its items did where a worker receives and
        answers slowly, or is shared.
        """
        work, time = math.fsum(costs), max(math.fsum(seconds), elapsed, 1e-9)
        measured = self._measured.setdefault(name, _Measured())
        keep = 0.5 ** min(len(costs) / HALF_LIFE_ITEMS, time / HALF_LIFE_SECONDS)
        measured.work = measured.work * keep + work
        measured.seconds = measured.seconds * keep + time
        measured.all_seconds += time
        if name in self._earlier:
            self._did += work
            self._would += time * self._earlier[name]
        speed = measured.work / measured.seconds
        expected = [cost / speed for cost in costs]
        # Mostly all of them are too short to be told apart.
        if max(*seconds, *expected) <= SHORT:
            lengths = [1.0] * len(costs)
        else:
            lengths = [max(SHORT, each) / max(SHORT, of) for each, of in zip(seconds, expected, strict=True)]
        number, total, squares = self._lengths
        self._lengths = number + len(lengths), total + sum(lengths), squares + sum([each**2 for each in lengths])
        self.longest = max(self.longest, *lengths)

    def measured(self, name: str) -> float:
        """Give the seconds of work that worker `name` has finished in this run."""
        return self._measured[name].all_seconds if name in self._measured else 0.0

    def speed(self, name: str) -> float | None:
        """Give the speed of worker `name`: measured, or as earlier; None when neither is known."""
        if measured := self._measured.get(name):
            return measured.work / measured.seconds
        if name in self._earlier:
            return self._earlier[name] * (self._did / self._would if self._would else 1.0)
        return None

    def mean(self) -> float | None:
        """Give the mean speed of all that were measured, also of workers that are gone; None before."""
        seconds = math.fsum(each.seconds for each in self._measured.values())
        return math.fsum(each.work for each in self._measured.values()) / seconds if seconds else None

    @property
    def uneven(self) -> bool:
        """Whether items of the same cost differ a lot in length: by half of their mean, as a standard deviation."""
        number, total, squares = self._lengths
        return number > 1 and squares * number > 1.25 * total**2  # variance > mean² / 4

    def to_remember(self) -> dict[str, float]:
        """Give what a later run should know, on the scale of this one."""
        scale = self._did / self._would if self._would else 1.0
        speeds = {name: speed * scale for name, speed in self._earlier.items()}
        return speeds | {name: each.work / each.seconds for name, each in self._measured.items()}
