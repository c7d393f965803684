"""When a graph could be done by who knows each task's length and each thread's speed beforehand."""

from bisect import insort
from itertools import count
from operator import add
from statistics import fmean
from typing import Any

from _graphs import Graph


def finish_with_foresight(graph: Graph, speeds: list[float]) -> float:
    """Give the seconds that HEFT needs, for the speeds of all threads, where messages and data take no time.

    HEFT is the list scheduler of Topcuoglu, Hariri and Wu (IEEE TPDS 13(3), 2002): tasks in the order of the longest
    way from each to the end, each where it ends first, also before what was placed earlier.
    """
    ends: dict[Any, float] = {}
    busy: list[list[tuple[float, float]]] = [[] for _ in speeds]
    to_the_end = _to_the_end(graph, fmean(1 / speed for speed in speeds))
    for key in sorted(graph.tasks, key=to_the_end.__getitem__, reverse=True):
        seconds, needs = graph.tasks[key]
        ready = max((ends[need] for need in needs), default=0.0)
        lengths = [seconds / speed for speed in speeds]
        starts = [_first_gap(taken, ready, length) for taken, length in zip(busy, lengths, strict=True)]
        end, start, place = min(zip(map(add, starts, lengths), starts, count()))
        ends[key] = end
        insort(busy[place], (start, end))
    return max(ends.values())


def _to_the_end(graph: Graph, slowness: float) -> dict[Any, float]:
    """Give the mean seconds from each task's start to the end of the last one that waits for it."""
    found: dict[Any, float] = dict.fromkeys(graph.tasks, 0.0)
    for key in reversed(list(graph.in_order())):
        seconds, needs = graph.tasks[key]
        # Those that wait for it came before.
        found[key] += seconds * slowness
        for need in needs:
            found[need] = max(found[need], found[key])
    return found


def _first_gap(taken: list[tuple[float, float]], ready: float, length: float) -> float:
    """Give the first moment from `ready` on at which a thread is free for so long."""
    start = ready
    for begin, end in taken:
        if end > start:
            if begin - start >= length:
                break
            start = end
    return start
