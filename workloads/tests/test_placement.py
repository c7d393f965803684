"""Placement by speed in a scheduler of Dask that checks its own state at each transition: validate=True."""

import asyncio
import gc
import logging
import random
import weakref
from collections.abc import Callable
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, Event, Scheduler, Worker, secede
from distributed.core import Status
from distributed.scheduler import WorkerState
from own_cluster import own_cluster

from tritoncluster.errors import InputError
from tritoncluster.known_speeds import ANY_WORK, METADATA
from tritoncluster.placement import SETTING, dask_setup
from tritoncluster.placement.replaced import scheduler as inside
from tritoncluster.placement.replaced.scheduler import SpeedAwareScheduler
from tritoncluster.placement.replaced.shape import Shape
from tritoncluster.placement.replaced.stealing import SpeedAwareStealing

#: Seconds of a task at the fastest worker's speed, as the scheduler is told: long beside what a test takes.
LONG = 100.0
ROOM = [1.0, 0.125, 0.125, 0.125, 0.125]
#: Workers are in this process: what tasks wait for, and what they leave.
GATE: list[asyncio.Event] = [asyncio.Event()]
ORDER: list[str] = []
#: A worker that a test pauses is not to go on as soon as it sees how much memory it has.
CONFIG = {"distributed.worker.memory.pause": False}


def on_cluster(speeds: list[float], threads: int = 1) -> Callable[..., Any]:
    """Give a test a cluster whose scheduler knows these speeds of workers, in their order."""

    def wrap(test: Callable[..., Any]) -> Callable[..., Any]:
        @own_cluster([threads] * len(speeds), CONFIG)
        async def cluster(client: Client, s: Scheduler, *workers: Worker) -> None:
            GATE[0] = asyncio.Event()
            dask_setup(s)
            assert isinstance(s, SpeedAwareScheduler)
            assert isinstance(s.extensions["stealing"], SpeedAwareStealing)
            for _ in range(50):
                for worker, speed in zip(workers, speeds, strict=True):
                    for kind in ("wait", "after"):
                        s.speeds.learn(str(worker.name), kind, LONG / speed)
            s.weigh()
            assert s.uneven == (len(set(speeds)) > 1)
            await test(client, s, *workers)

        cluster.__name__, cluster.__doc__ = test.__name__, test.__doc__
        return cluster

    return wrap


async def wait(name: str, *_needs: object) -> str:
    """Be at work until told to end; a thread could not be stopped with its worker."""
    await GATE[0].wait()
    return name


def root(place: int) -> int:
    return place


def note(name: str) -> None:
    ORDER.append(name)


def after(*_needs: object) -> int:
    return len(_needs)


async def until(what: Callable[[], object]) -> None:
    """Wait for what tasks and workers do."""
    while not what():  # noqa: ASYNC110 - the scheduler has no event for each state that tests look for
        await asyncio.sleep(0.01)


async def placed(s: Scheduler, number: int) -> list[int]:
    """Wait until so many tasks are on workers or in the queue, and give how many each worker has."""
    await until(lambda: sum(len(ws.processing) for ws in s.workers.values()) + len(s.queued) >= number)
    return [len(ws.processing) for ws in in_order(s)]


def in_order(s: Scheduler) -> list[WorkerState]:
    """Give workers as they were started."""
    return sorted(s.workers.values(), key=lambda ws: ws.name)


async def end(client: Client, futures: list[Any]) -> list[Any]:
    GATE[0].set()
    found: list[Any] = await client.gather(futures)
    return found


@on_cluster(ROOM)
async def test_a_task_goes_where_it_ends_first(client: Client, s: Scheduler, *_workers: Worker) -> None:
    futures = client.map(wait, ["end"] * 5, pure=False)
    # Dask would give each worker one.
    assert await placed(s, 5) == [5, 0, 0, 0, 0]
    assert await end(client, futures) == ["end"] * 5


@on_cluster([1.0, 0.02, 0.02, 0.02, 0.02])
async def test_slow_workers_are_held_when_others_will_have_done_all_before(
    client: Client, s: SpeedAwareScheduler, *_workers: Worker
) -> None:
    futures = client.map(wait, ["end"] * 15, pure=False)
    assert await placed(s, 15) == [1, 0, 0, 0, 0]
    assert len(s.queued) == 14
    # As long as nothing is late, time changes nothing.
    await asyncio.sleep(0.5)
    assert len(s.queued) == 14
    assert await end(client, futures) == ["end"] * 15


@on_cluster(ROOM)
async def test_a_slow_worker_has_its_part_of_many(client: Client, s: Scheduler, *_workers: Worker) -> None:
    futures = client.map(wait, ["end"] * 60, pure=False)
    assert await placed(s, 60) == [1, 1, 1, 1, 1]
    await end(client, futures)


def teach_unlike_lengths(s: SpeedAwareScheduler) -> None:
    """Let the scheduler see tasks whose lengths are spread exponentially, and have no doubt of speeds."""
    stream = random.Random(1)  # noqa: S311 - no secrets
    for _ in range(200):
        length = LONG * stream.expovariate(1)
        for ws, speed in zip(in_order(s), ROOM, strict=True):
            s.speeds.learn(str(ws.name), "wait", length / speed)
    s.weigh()


@pytest.mark.parametrize(("teach", "slow"), [(lambda _: None, 1), (teach_unlike_lengths, 0)])
def test_a_slow_worker_gets_no_task_near_the_end_that_may_be_long(
    teach: Callable[[SpeedAwareScheduler], None], slow: int
) -> None:
    @on_cluster(ROOM)
    async def cluster(client: Client, s: SpeedAwareScheduler, *_workers: Worker) -> None:
        teach(s)
        # In what ten take the fast worker, each slow one could do one, which takes it as long as eight.
        futures = client.map(wait, ["end"] * 14, pure=False)
        assert await placed(s, 14) == [1, slow, slow, slow, slow]
        await end(client, futures)

    cluster()


@own_cluster([2, 2], CONFIG)
async def test_a_long_task_waits_for_a_thread_only_on_a_worker_of_which_something_is_known(
    client: Client, s: SpeedAwareScheduler, *workers: Worker
) -> None:
    dask_setup(s)
    GATE[0] = asyncio.Event()
    futures = client.map(wait, ["end"] * 20, pure=False)
    assert await placed(s, 20) == [2, 2]
    s.speeds.learn(str(workers[0].name), "another", LONG)
    more = client.submit(wait, "end", pure=False)
    # Dask has one more than its threads on each; it looks again when something ends.
    s.check_idle_saturated(s.workers[workers[0].address])
    s.check_idle_saturated(s.workers[workers[1].address])
    s.stimulus_queue_slots_maybe_opened(stimulus_id="test")
    assert await placed(s, 21) == [3, 2]
    await end(client, [*futures, more])


@own_cluster([2, 2], {"distributed.scheduler.worker-saturation": 2.0})
async def test_an_owners_worker_saturation_holds(client: Client, s: Scheduler, *_workers: Worker) -> None:
    dask_setup(s)
    GATE[0] = asyncio.Event()
    futures = client.map(wait, ["end"] * 20, pure=False)
    assert await placed(s, 20) == [4, 4]
    await end(client, futures)


@on_cluster([1.0, 0.02])
async def test_what_needs_a_slow_workers_data_goes_to_the_fast(
    client: Client, s: Scheduler, fast: Worker, slow: Worker
) -> None:
    (data,) = await client.scatter([1], workers=[slow.address])
    future = client.submit(after, data, pure=False)
    assert await future == 1
    assert future.key in fast.data


@on_cluster([1.0, 0.02, 0.02])
async def test_held_workers_go_on_when_the_fast_one_goes(
    client: Client, s: SpeedAwareScheduler, fast: Worker, *_slow: Worker
) -> None:
    futures = client.map(wait, ["end"] * 10, pure=False)
    assert await placed(s, 10) == [1, 0, 0]
    closing = asyncio.create_task(fast.close(nanny=False, timeout=0.1, executor_wait=False))
    await until(lambda: all(ws.processing for ws in s.workers.values()) and len(s.workers) == 2)
    assert await end(client, futures) == ["end"] * 10
    await closing
    assert fast.address not in {*s.pace, *s.began, *(ws.address for ws in s.held)}


@on_cluster([1.0, 0.02, 0.02])
async def test_held_workers_go_on_when_the_fast_one_is_paused(
    client: Client, s: SpeedAwareScheduler, fast: Worker, *_slow: Worker
) -> None:
    futures = client.map(wait, ["end"] * 10, pure=False)
    assert await placed(s, 10) == [1, 0, 0]
    fast.status = Status.paused
    await until(lambda: all(ws.processing for ws in s.workers.values()))
    fast.status = Status.running
    assert await end(client, futures) == ["end"] * 10


@on_cluster([1.0, 0.02, 0.02])
async def test_held_workers_go_on_when_the_fast_one_retires(
    client: Client, s: SpeedAwareScheduler, fast: Worker, *_slow: Worker
) -> None:
    futures = client.map(wait, ["end"] * 10, pure=False)
    await placed(s, 10)
    retiring = asyncio.create_task(client.retire_workers([fast.address]))
    await until(lambda: sum(len(ws.processing) for ws in s.workers.values() if ws.address != fast.address) >= 2)
    assert await end(client, futures) == ["end"] * 10
    await retiring


@on_cluster([1.0, 0.02])
async def test_a_worker_that_comes_gets_what_is_queued(client: Client, s: SpeedAwareScheduler, *_: Worker) -> None:
    futures = client.map(wait, ["end"] * 10, pure=False)
    assert await placed(s, 10) == [1, 0]
    async with Worker(s.address) as new:
        await until(lambda: s.workers[new.address].processing)
        assert await end(client, futures) == ["end"] * 10


@on_cluster([1.0, 0.02])
async def test_a_fast_worker_that_hangs_is_not_waited_for(client: Client, s: SpeedAwareScheduler, *_: Worker) -> None:
    futures = client.map(wait, ["end"] * 10, pure=False)
    assert await placed(s, 10) == [1, 0]
    # Its task should long be done.
    for address in s.began:
        s.began[address] -= 1000 * LONG
    await until(lambda: all(ws.processing for ws in s.workers.values()))
    assert await end(client, futures) == ["end"] * 10


@on_cluster([1.0, 0.5])
async def test_what_waits_behind_a_task_that_hangs_is_stolen(
    client: Client, s: SpeedAwareScheduler, fast: Worker, slow: Worker
) -> None:
    for worker, seconds in ((fast, 0.01), (slow, 0.02)):
        for _ in range(20):
            s.speeds.learn(str(worker.name), "part", seconds)
    s.weigh()

    def part(name: str) -> str:
        return Event(name).wait() and name

    # The fast one has something else to do meanwhile.
    other = client.submit(wait, "end", workers=[fast.address], pure=False)
    await placed(s, 1)
    futures = [client.submit(part, "hangs", workers=[slow.address], pure=False)]
    await until(lambda: slow.state.executing_count)
    await Event("goes", client=client).set()
    futures += client.map(part, ["goes"] * 2, pure=False, workers=[slow.address], key=["part-1", "part-2"])
    await placed(s, 4)
    # Nothing binds them any more, as if the queue had put them there.
    for future in futures[1:]:
        s.tasks[future.key].worker_restrictions = set()
        s.extensions["stealing"].recalculate_cost(s.tasks[future.key])
    assert await end(client, [other]) == ["end"]
    assert await client.gather(futures[1:]) == ["goes"] * 2
    await Event("hangs", client=client).set()
    assert await client.gather(futures[:1]) == ["hangs"]


@on_cluster([1.0, 0.5])
async def test_stealing_that_was_stopped_is_stopped(
    client: Client, s: SpeedAwareScheduler, fast: Worker, slow: Worker
) -> None:
    stealing = s.extensions["stealing"]
    await stealing.stop()
    futures = client.map(wait, ["end"] * 10, pure=False, workers=[fast.address], allow_other_workers=True, priority=1)
    await placed(s, 10)
    for _ in range(5):
        s.stolen = 0.0
        s.look_again()
    assert stealing.count == 0
    assert await end(client, futures) == ["end"] * 10


@own_cluster([2] * 4)
async def test_workers_are_not_slow_because_one_task_was_short(
    client: Client, s: Scheduler, first: Worker, *others: Worker
) -> None:
    dask_setup(s)
    GATE[0] = asyncio.Event()
    long = [client.submit(wait, "end", workers=[worker.address], pure=False) for worker in others]
    await placed(s, 3)
    for seconds in (0.01, 0.02):
        s.speeds.learn(str(first.name), "wait", seconds)
    for address in s.began:
        s.began[address] -= LONG
    s.weigh()
    assert not s.uneven
    assert await end(client, long) == ["end"] * 3


@on_cluster([1.0, 0.5])
async def test_a_task_that_nobody_wants_is_let_go(client: Client, s: SpeedAwareScheduler, *_: Worker) -> None:
    future = client.submit(after, bytes(1_000_000), pure=False)
    await future
    task = weakref.ref(s.tasks[future.key])
    del future
    await until(lambda: not s.tasks)

    def gone() -> bool:
        gc.collect()
        return task() is None

    await until(gone)


@on_cluster([1.0, 0.02], threads=2)
async def test_what_binds_a_task_to_a_worker_binds_it(client: Client, s: Scheduler, fast: Worker, slow: Worker) -> None:
    class Counter:
        def __init__(self) -> None:
            self.number = 0

        def more(self) -> int:
            self.number += 1
            return self.number

    bound = client.map(after, range(4), workers=[slow.address], pure=False)
    loose = client.map(after, range(4, 8), workers=["nobody"], allow_other_workers=True, pure=False)
    assert await client.gather(bound + loose) == [1] * 8
    assert {ws for places in (await client.who_has(bound)).values() for ws in places} == {slow.address}
    counter = await client.submit(Counter, actor=True, workers=[slow.address])
    assert [await counter.more() for _ in range(3)] == [1, 2, 3]
    assert counter.key in slow.state.actors


@own_cluster([4, 4], resources={"THING": 1})
async def test_tasks_that_want_a_resource_do_not_pile_up(client: Client, s: Scheduler, *workers: Worker) -> None:
    dask_setup(s)
    GATE[0] = asyncio.Event()
    for worker, seconds in zip(workers, (LONG, 1.9 * LONG), strict=True):
        for _ in range(50):
            s.speeds.learn(str(worker.name), "wait", seconds)
    s.weigh()
    assert s.uneven
    futures = client.map(wait, ["end"] * 2, resources={"THING": 1}, pure=False)
    assert await placed(s, 2) == [1, 1]
    assert await end(client, futures) == ["end"] * 2


@on_cluster([1.0, 0.02])
async def test_priorities_hold_in_the_queue(client: Client, s: SpeedAwareScheduler, fast: Worker, *_: Worker) -> None:
    ORDER.clear()
    first = client.map(wait, ["end"] * 6, pure=False)
    await placed(s, 6)
    low = client.map(note, ["low"] * 6, priority=-1, pure=False)
    high = client.map(note, ["high"] * 6, priority=1, pure=False)
    await placed(s, 18)
    await end(client, first)
    await client.gather(low + high)
    assert set(ORDER[:6]) == {"high"}


@on_cluster([1.0, 0.25])
async def test_a_task_that_secedes_makes_room_and_teaches_nothing(
    client: Client, s: SpeedAwareScheduler, *_workers: Worker
) -> None:
    def leave(name: str) -> str:
        secede()
        Event(name).wait()
        return name

    futures = client.map(leave, ["left"] * 4, pure=False)
    await until(lambda: sum(len(ws.long_running) for ws in s.workers.values()) >= 4)
    assert await client.gather(client.map(after, range(20), pure=False)) == [1] * 20
    await Event("left", client=client).set()
    assert await client.gather(futures) == ["left"] * 4
    assert s.speeds.seconds("leave") is None
    assert not s.seceded


@on_cluster(ROOM)
async def test_root_tasks_are_not_overproduced(client: Client, s: SpeedAwareScheduler, *_workers: Worker) -> None:
    most = 0
    roots = [dask.delayed(root)(place) for place in range(200)]
    futures = client.compute([dask.delayed(after)(each) for each in roots], optimize_graph=False)
    gathered = asyncio.ensure_future(client.gather(futures))
    while not gathered.done():
        most = max(most, sum(ts.prefix.name == "root" for ws in s.workers.values() for ts in ws.processing))
        await asyncio.sleep(0)
    assert await gathered == [1] * 200
    # Of the five workers each has one at work and one that waits, as with Dask, and some are being stolen.
    assert 0 < most <= 20


@on_cluster(ROOM)
async def test_a_shuffle_is_right(client: Client, *_cluster: Scheduler | Worker) -> None:
    frame = pd.DataFrame({"x": range(1000), "y": [place % 7 for place in range(1000)]})
    for method in ("tasks", "p2p"):
        shuffled = dd.from_pandas(frame, npartitions=15).shuffle("y", shuffle_method=method)
        found = await client.compute(shuffled.groupby("y").x.sum())
        assert found.to_dict() == frame.groupby("y").x.sum().to_dict()


@on_cluster([1.0, 1.0, 1.0])
async def test_on_equal_workers_dask_decides(client: Client, s: SpeedAwareScheduler, *workers: Worker) -> None:
    data = await client.scatter(list(range(3)), workers=[workers[0].address])
    futures = client.map(wait, ["end"] * 4, data + data[:1], pure=False)
    await placed(s, 4)
    for future in futures:
        ts = s.tasks[future.key]
        assert s.decide_worker_non_rootish(ts) is Scheduler.decide_worker_non_rootish(s, ts)
        for ws in s.workers.values():
            assert s.worker_objective(ts, ws) == Scheduler.worker_objective(s, ts, ws)
    assert s.decide_worker_rootish_queuing_enabled() is Scheduler.decide_worker_rootish_queuing_enabled(s)
    assert not s.held
    await end(client, futures)


@on_cluster([1.0, *[0.5] * 29])
async def test_of_many_workers_few_are_looked_at(client: Client, s: SpeedAwareScheduler, *_workers: Worker) -> None:
    (data,) = await client.scatter([1])
    futures = client.map(wait, ["end"] * 5, [data] * 5, pure=False)
    await placed(s, 5)
    looked: list[object] = []

    class Counting(SpeedAwareScheduler):
        def worker_objective(self, ts: Any, ws: Any) -> tuple[Any, ...]:
            looked.append(ws)
            return super().worker_objective(ts, ws)

    s.__class__ = Counting
    for future in futures:
        looked.clear()
        assert s.decide_worker_non_rootish(s.tasks[future.key])
        # Who fetched the data has it, too; then idle ones, and any.
        holders = len(s.tasks[data.key].who_has or ())
        assert len(looked) <= min(holders, inside.OTHERS) + 2 * inside.OTHERS
    s.__class__ = SpeedAwareScheduler
    await end(client, futures)


@own_cluster([1, 1])
async def test_speeds_are_learned_from_tasks_and_shared_with_balanced_runs(
    client: Client, s: Scheduler, one: Worker, other: Worker
) -> None:
    def sleep(seconds: float) -> None:
        import time

        from distributed import get_worker

        time.sleep(seconds * (1 if get_worker().address == fast else 10))

    fast = one.address
    dask_setup(s)
    await client.gather(client.map(sleep, [0.02] * 60, pure=False))
    assert s.uneven
    s.plugins["tritoncluster-placement"]._looked = 0.0
    await until(lambda: len(s.task_metadata.get(METADATA, {}).get(ANY_WORK, {})) == 2)
    left = await client.get_metadata([METADATA, ANY_WORK], default={})
    assert left[str(one.name)] > 3 * left[str(other.name)]
    known = await client.get_metadata([METADATA, ANY_WORK], default={})
    assert known[str(one.name)] > 3 * known[str(other.name)]
    # And the other way round.
    await client.set_metadata([METADATA, "work"], {str(one.name): 1.0, str(other.name): 1000.0})


@own_cluster([1, 1])
async def test_what_balanced_runs_left_is_taken_over(client: Client, s: Scheduler, one: Worker, other: Worker) -> None:
    await client.set_metadata([METADATA, "work"], {str(one.name): 50.0, str(other.name): 5.0})
    dask_setup(s)
    s.plugins["tritoncluster-placement"].look()
    assert s.uneven
    assert s.pace[one.address] / s.pace[other.address] == pytest.approx(10, rel=0.5)


@own_cluster([1, 1])
async def test_tasks_that_are_bound_teach_nothing(client: Client, s: Scheduler, one: Worker, *_: Worker) -> None:
    import time

    dask_setup(s)
    await client.gather(client.map(time.sleep, [0.02] * 3, workers=[one.address], pure=False))
    assert not s.speeds.knows(str(one.name))


@own_cluster([])
async def test_another_distributed_is_left_as_it_is(client: Client, s: Scheduler) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tritoncluster.placement").addHandler(handler)
    tried, Shape.TRIED = Shape.TRIED, "another"
    try:
        dask_setup(s)
    finally:
        Shape.TRIED = tried
        logging.getLogger("tritoncluster.placement").removeHandler(handler)
    assert type(s) is Scheduler
    assert len(records) == 1
    assert "was not tried with this version" in records[0]


def test_the_installed_distributed_is_the_one_that_was_tried() -> None:
    """After an upgrade: try it (make test-unit, make bench-graphs), then write the new hash."""
    assert Shape.here() == Shape.TRIED


@own_cluster([])
async def test_one_setting_turns_it_off(client: Client, s: Scheduler) -> None:
    with dask.config.set({SETTING: False}):
        dask_setup(s)
    assert type(s) is Scheduler
    with dask.config.set({SETTING: "perhaps"}), pytest.raises(InputError, match="write true or false"):
        dask_setup(s)
