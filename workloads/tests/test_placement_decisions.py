"""What placement knows and plans, without Dask: speeds, the end of what is left, the table."""

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest

from tritoncluster.known_speeds import ANY_WORK, METADATA
from tritoncluster.placement.plan import PRECISION, Slots, finish_time
from tritoncluster.placement.speeds import Speeds
from tritoncluster.placement.table import EXPIRES, MOST_WORKS, Table


def lengths(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secrets


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_speeds_are_learned_from_tasks_of_unlike_length(spread: float) -> None:
    stream, speeds = lengths(1), Speeds()
    true = {"fast": 1.0, "slow": 0.125}
    for _ in range(300):
        for worker, speed in true.items():
            speeds.learn(worker, "task", 0.2 * stream.lognormvariate(0, spread) / speed)
    assert speeds.speed("fast") / speeds.speed("slow") == pytest.approx(8, rel=0.1 + 0.3 * spread)


def test_one_task_of_each_tells_most_of_it() -> None:
    speeds = Speeds()
    speeds.learn("fast", "task", 0.1)
    speeds.learn("slow", "task", 0.8)
    assert speeds.bounds("fast")[0] > 2 * speeds.bounds("slow")[1]


@pytest.mark.parametrize(
    ("length", "variation"), [(lambda _: 0.1, 0.0), (lambda s: 0.1 * s.lognormvariate(0, 0.5), 0.28)]
)
def test_how_unlike_tasks_are_is_told(length: Callable[[random.Random], float], variation: float) -> None:
    stream, speeds = lengths(1), Speeds()
    for _ in range(500):
        for worker, speed in {"fast": 1.0, "slow": 0.125}.items():
            speeds.learn(worker, "task", length(stream) / speed)
    # For a lognormal: e to the square of its 0.5, less 1.
    assert speeds.variation("task") == pytest.approx(variation, abs=0.1)
    assert speeds.variation("unknown") < 0.1


def test_kinds_of_tasks_are_told_apart() -> None:
    speeds = Speeds()
    for _ in range(30):
        # The fast worker has the long ones.
        speeds.learn("fast", "short", 0.1)
        speeds.learn("slow", "short", 0.4)
        speeds.learn("fast", "long", 10.0)
    assert speeds.speed("fast") / speeds.speed("slow") == pytest.approx(4, rel=0.1)
    assert speeds.seconds("long") == pytest.approx(100 * speeds.seconds("short"), rel=0.2)


def test_an_outlier_hardly_counts_and_a_change_does() -> None:
    speeds = Speeds()
    for _ in range(30):
        for worker in ("one", "other"):
            speeds.learn(worker, "task", 0.1)
    speeds.learn("one", "task", 100.0)
    assert speeds.speed("one") / speeds.speed("other") > 0.5
    for _ in range(100):
        speeds.learn("one", "task", 1.0)
        speeds.learn("other", "task", 0.1)
    assert speeds.speed("one") / speeds.speed("other") == pytest.approx(0.1, rel=0.2)


def test_very_short_tasks_tell_nothing() -> None:
    speeds = Speeds()
    for seconds in (0.001, 0.0, -1.0, float("nan")):
        speeds.learn("worker", "task", seconds)
    assert not speeds.knows("worker")


@pytest.mark.parametrize("seed", range(20))
def test_finish_time_is_that_of_each_task_going_where_it_ends_first(seed: int) -> None:
    stream = lengths(seed)
    slots = [
        Slots(stream.randint(1, 4), stream.choice([0.0, stream.uniform(0, 5)]), stream.uniform(0.1, 4))
        for _ in range(stream.randint(1, 12))
    ]
    tasks = stream.randint(1, 200)
    ends = [(start + task, task) for threads, start, task in slots for _ in range(threads)]
    heapq.heapify(ends)
    for _ in range(tasks):
        end, task = heapq.heappop(ends)
        heapq.heappush(ends, (end + task, task))
    assert finish_time(tasks, slots) == pytest.approx(end, rel=2 * PRECISION)


def test_nothing_is_left_or_nobody_is_there() -> None:
    assert finish_time(0, [Slots(1, 0.0, 1.0)]) == 0
    assert finish_time(1, []) == float("inf")


def test_the_table_gives_what_others_wrote_once_and_forgets_it_in_the_end() -> None:
    metadata: dict[Any, Any] = {}
    now = [0.0]
    table = Table(metadata, lambda: now[0])
    assert not list(table.new())
    metadata[METADATA]["work"] = {"one": 2.0, "broken": -1, "odd": "fast"}
    assert list(table.new()) == [("work", {"one": 2.0})]
    table.leave({"one": 1.0})
    now[0] = EXPIRES
    assert not list(table.new())
    metadata[METADATA]["later"] = {"one": 3.0}
    assert [work for work, _ in table.new()] == ["later"]
    now[0] += 1
    assert not list(table.new())
    assert set(metadata[METADATA]) == {ANY_WORK, "later"}


def test_the_table_is_not_without_end() -> None:
    metadata: dict[Any, Any] = {METADATA: {f"work {place}": {"one": 1.0} for place in range(MOST_WORKS + 10)}}
    list(Table(metadata).new())
    assert len(metadata[METADATA]) == MOST_WORKS
    metadata[METADATA] = {}
    assert not list(Table(metadata).new())
