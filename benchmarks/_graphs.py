"""Graphs of tasks that are so many seconds of work at speed 1, done in a way that `compute` is told.

Dask's own collections give the larger ones their shape: each task is replaced, names and dependencies stay.
"""

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from _tasks import nap
from dask._task_spec import Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from dask.utils import key_split
from distributed import Client

#: Seconds of a task that computes, and of one that only cuts or joins, at speed 1.
LONG, SHORT = 0.06, 0.003
#: What only cuts or joins.
CUTS = ("getitem", "split", "stack", "repartition")


@dataclass(frozen=True)
class Graph:
    """Tasks, by key: seconds at speed 1, and the keys that each needs; `wanted` are the ones that are asked for."""

    tasks: Mapping[Any, tuple[float, frozenset[Any]]]
    wanted: list[Any]
    #: "map" and "submit" for tasks that need none other; a graph otherwise.
    way: str = "graph"

    @property
    def seconds(self) -> float:
        """Of all tasks together."""
        return sum(seconds for seconds, _ in self.tasks.values())

    @property
    def longest_chain(self) -> float:
        """Seconds of the tasks that have to be done one after the other."""
        ends: dict[Any, float] = {}
        for key in self.in_order():
            seconds, needs = self.tasks[key]
            ends[key] = seconds + max((ends[need] for need in needs), default=0.0)
        return max(ends.values())

    def in_order(self) -> Iterator[Any]:
        """Give keys, each after those that it needs."""
        done: set[Any] = set()
        for first in self.tasks:
            stack = [first]
            while stack:
                if missing := [need for need in self.tasks[stack[-1]][1] if need not in done]:
                    stack += missing
                elif (key := stack.pop()) not in done:
                    done.add(key)
                    yield key

    def bound(self, speeds: list[float]) -> float:
        """Give the least possible seconds, for the speeds of all threads."""
        return max(self.seconds / sum(speeds), self.longest_chain / max(speeds))

    def compute(self, client: Client, work: Callable[..., object] = nap) -> None:
        """Let a cluster do it; `work` is called with a task's seconds and what it needs."""
        if self.way == "map":
            client.gather(client.map(work, [seconds for seconds, _ in self.tasks.values()], pure=False))
        elif self.way == "submit":
            client.gather([client.submit(work, seconds, pure=False) for seconds, _ in self.tasks.values()])
        else:
            token = uuid.uuid4().hex[:8]
            names = {key: named(key, token) for key in self.tasks}
            graph = {
                names[key]: Task(names[key], work, seconds, *(TaskRef(names[need]) for need in needs))
                for key, (seconds, needs) in self.tasks.items()
            }
            client.get(graph, [names[key] for key in self.wanted])


def named(key: Any, token: str) -> Any:
    """Give the key's name for one computation; prefix and group stay what they are for Dask."""
    return (f"{key[0]}{token}", *key[1:]) if isinstance(key, tuple) else f"{key}{token}"


def equal(number: int, seconds: float, _seed: int = 0) -> Graph:
    """Give tasks that are all alike."""
    tasks = {f"equal-{place}": (seconds, frozenset[Any]()) for place in range(number)}
    return Graph(tasks, list(tasks), "map")


def unequal(number: int, seed: int = 0) -> Graph:
    """Give tasks whose lengths are spread exponentially."""
    stream = random.Random(seed)  # noqa: S311 - no secrets
    tasks = {f"unequal-{place}": (0.02 + stream.expovariate(1 / 0.15), frozenset[Any]()) for place in range(number)}
    return Graph(tasks, list(tasks), "submit")


def tree(leaves: int, _seed: int = 0) -> Graph:
    """Give sums of pairs."""
    tasks = {f"sum-{uuid.uuid4()}": (0.08, frozenset[Any]()) for _ in range(leaves)}
    level = list(tasks)
    while len(level) > 1:
        above = {f"sum-{uuid.uuid4()}": (0.04, frozenset(pair)) for pair in zip(level[::2], level[1::2], strict=True)}
        tasks |= above
        level = list(above)
    return Graph(tasks, level)


def chains(number: int, _seed: int = 0) -> Graph:
    """Give chains of three stages."""
    tasks: dict[Any, tuple[float, frozenset[Any]]] = {}
    for place in range(number):
        for stage in range(3):
            needs = frozenset({(f"stage{stage - 1}-of", place)} if stage else ())
            tasks[f"stage{stage}-of", place] = (0.08, needs)
    return Graph(tasks, [("stage2-of", place) for place in range(number)])


def shuffle(partitions: int, _seed: int = 0) -> Graph:
    """Give a data frame's shuffle and a group-by on it."""
    frame = dd.from_pandas(pd.DataFrame({"x": range(10 * partitions), "y": 1}), npartitions=partitions)
    return _like(frame.shuffle("x", shuffle_method="tasks").groupby("y").x.sum(split_every=8).optimize())


def product(blocks: int, _seed: int = 0) -> Graph:
    """Give the product of two matrices of `blocks` by `blocks` blocks."""
    matrix = da.ones((blocks, blocks), chunks=1)
    return _like(dask.optimize(matrix @ matrix)[0])


def tall_skinny(blocks: int, _seed: int = 0) -> Graph:
    """Give the singular value decomposition of a tall matrix."""
    return _like(dask.optimize(da.linalg.svd(da.random.random((10 * blocks, 4), chunks=(10, 4)))[0])[0])


def stencil(blocks: int, _seed: int = 0) -> Graph:
    """Give two steps of a stencil on `blocks` by `blocks` blocks that overlap."""
    field = da.ones((4 * blocks, 4 * blocks), chunks=4)
    for _ in range(2):
        field = da.map_overlap(np.copy, field, depth=1, boundary="none", dtype=float)
    return _like(dask.optimize(field)[0])


def _like(collection: Any) -> Graph:
    """Replace a collection's tasks by so many seconds of work."""
    graph = convert_legacy_graph(dict(collection.__dask_graph__()))
    tasks = {
        key: (SHORT if any(word in key_split(key) for word in CUTS) else LONG, frozenset(task.dependencies))
        for key, task in graph.items()
    }
    return Graph(tasks, list(flatten(collection.__dask_keys__())))


#: Work -> what makes it, from a seed, for rooms of about 1.5 to 4 in summed speed, and for larger ones.
WORKS: dict[str, tuple[Callable[[int], Graph], Callable[[int], Graph]]] = {
    "equal tasks": (partial(equal, 300, 0.04), partial(equal, 1200, 0.08)),
    "unequal tasks": (partial(unequal, 80), partial(unequal, 400)),
    "tree": (partial(tree, 128), partial(tree, 512)),
    "chains": (partial(chains, 60), partial(chains, 240)),
    "few long tasks": (partial(equal, 24, 0.5), partial(equal, 90, 1.0)),
    "shuffle and group-by": (partial(shuffle, 24), partial(shuffle, 48)),
    "blocked product": (partial(product, 5), partial(product, 9)),
    "tall-skinny SVD": (partial(tall_skinny, 64), partial(tall_skinny, 256)),
    "stencil": (partial(stencil, 6), partial(stencil, 12)),
}
#: A few tasks that are as long as to leave out what the cluster needs for each: they tell a worker's speed.
ALONE = equal(6, 0.4)
