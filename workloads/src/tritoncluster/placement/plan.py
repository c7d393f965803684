"""When all that is left will be done, at the earliest; knows neither Dask nor a clock."""

import math
from collections.abc import Sequence
from typing import NamedTuple

#: How close the end is found, as a part of it.
PRECISION = 0.01


class Slots(NamedTuple):
    """Threads of one worker: how many, in how many seconds they are free, and how many seconds a task takes them."""

    threads: int
    start: float
    task: float


def finish_time(tasks: float, slots: Sequence[Slots]) -> float:
    """Give the seconds in which so many equal tasks can be done when each goes where it ends first.

    Threads that would not end a task by then get none: that is what tells a slow worker's part at the end.

    Parameters
    ----------
    tasks
        How many wait.
    slots
        Who may do them; infinity without any.
    """
    usable = [each for each in slots if each.threads > 0 and math.isfinite(each.start + each.task)]
    if tasks <= 0 or not usable:
        return 0.0 if tasks <= 0 else math.inf
    first = min(each.start + each.task for each in usable)
    power = math.fsum(each.threads / each.task for each in usable)
    low, high = first, (tasks + math.fsum(each.threads * each.start / each.task for each in usable)) / power
    # Until then, as a fluid; each thread may lack one task of that.
    high = max(first, high) + max(each.task for each in usable)
    if _done(low, usable) >= tasks:
        return low
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        if _done(middle, usable) >= tasks:
            high = middle
        else:
            low = middle
    return high


def _done(end: float, slots: Sequence[Slots]) -> int:
    """Count the tasks that are done by then."""
    return sum(
        # What would be done within rounding is done.
        threads * int((end - start) / task + 1e-9)
        for threads, start, task in slots
        if end > start
    )
