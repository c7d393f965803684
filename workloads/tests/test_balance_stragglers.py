"""Workers that hang, or get slow, while others wait for them: nobody waits long."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritoncluster.balance.model import WorkerState
from tritoncluster.balance.queue import Queue
from tritoncluster.balance.simulation import PROBE, TICK, SimulatedWorker, Simulation
from tritoncluster.balance.stragglers import LATE_UNKNOWN

#: Seconds until it is seen that a worker hangs when its answer is due: until it is late, and a question to it is.
SEEN = 1.0 + PROBE
#: The latest that others wait beyond that: ticks of the simulated clock, messages, and lengths that were judged from
#: few items.
MARGIN = 1.0

moments = st.floats(0, 20)
hanging = st.builds(SimulatedWorker, speed=st.floats(0.05, 5), threads=st.integers(1, 4), hangs=moments)


@settings(max_examples=100)
@given(
    speed=st.floats(0.2, 5),
    others=st.lists(hanging, min_size=1, max_size=4),
    lengths=st.lists(st.floats(0.01, 3), min_size=1, max_size=60),
    told=st.booleans(),
)
def test_nobody_waits_for_who_hangs_longer_than_it_takes_to_see_that(speed, others, lengths, told):
    # All but one hang in the end. Nothing is a straggler: only who asks learns of it.
    room = [SimulatedWorker(speed), *others]
    result = Simulation(room, lengths, told=lengths if told else None, earlier=True, patience=1e9).run()
    assert sorted(result.answers) == list(range(len(lengths)))
    # Of what they had, each is late when half as much time again has gone as it should take, or some seconds where
    # nobody knows how long that is.
    slowest = min(worker.speed for worker in room)
    late = max(1.5 * max(lengths) / slowest, 0.0 if told else LATE_UNKNOWN)
    alone = sum(lengths) / speed
    hung = max(worker.hangs for worker in others)
    assert result.seconds <= hung + late + SEEN + MARGIN + alone + max(lengths) / speed


@settings(max_examples=100)
@given(
    speed=st.floats(0.2, 5),
    others=st.lists(hanging, min_size=1, max_size=4),
    lengths=st.lists(st.floats(0.01, 3), min_size=1, max_size=60),
    told=st.booleans(),
    earlier=st.booleans(),
)
def test_who_is_doubted_and_does_not_answer_is_waited_for_no_longer(speed, others, lengths, told, earlier):
    since: dict[str, float] = {}

    def watch(queue: Queue, now: float) -> None:
        doubted = {worker.address for worker in queue.doubtful(now) if simulation.workers[worker.name].hangs <= now}
        for address in since.keys() - doubted:
            del since[address]
        for address in doubted:
            assert now - since.setdefault(address, now) <= PROBE + 3 * TICK

    simulation = Simulation(
        [SimulatedWorker(speed), *others],
        lengths,
        told=lengths if told else None,
        earlier=earlier,
        patience=1e9,
        watch=watch,
    )
    simulation.run()


@pytest.mark.parametrize("slower", [2, 5, 20])
def test_a_hung_fastest_workers_last_items_are_soon_repeated_by_one_much_slower(slower):
    hung = 0
    for last in range(40, 60):
        # Uneven items: what takes long could be a long one, and a slow worker would need as many times longer for it.
        lengths = ([0.1] * 9 + [3.0]) * 8 + [0.1] * last
        fast, slow = SimulatedWorker(1.0), SimulatedWorker(1.0 / slower)
        limit = math.inf

        def watch(queue: Queue, now: float, fast=fast, lengths=lengths) -> None:
            nonlocal limit
            has = queue.workers["0"].chunks
            if (
                limit == math.inf
                and queue.rates.uneven
                and queue._items.first is None
                and has
                and queue.workers["1"].idle
            ):
                fast.hangs = now
                due = max(now + 1.5 * chunk.cost / queue.rates.speed("0") for chunk in has)
                repeated = slower * sum(lengths[item.number] for chunk in has for item in chunk.items if not item.done)
                limit = due + SEEN + MARGIN + repeated

        result = Simulation([fast, slow], lengths, watch=watch).run()
        assert sorted(result.answers) == list(range(len(lengths)))
        assert result.seconds <= limit
        hung += limit < math.inf
    assert hung > 0


def pair(waiting: int = 1) -> Queue:
    """Make a queue of a worker that has an item, which should take it a second, and of an idle one as fast."""
    queue = Queue({"late": 1.0})
    queue.add_worker("late", "late", 1)
    for _ in range(waiting):
        queue.add()
    queue.decide(0.0)
    return queue


def doubted(queue: Queue, now: float) -> list[str]:
    return [worker.address for worker in queue.doubtful(now)]


def test_only_who_is_late_while_others_could_help_is_doubted():
    queue = pair()
    assert doubted(queue, 100.0) == []
    # 20 times slower: nothing is repeated there before it is so late.
    queue.rates.know({"late": 1.0, "other": 0.05})
    queue.add_worker("other", "other", 1)
    queue.decide(0.1)
    assert doubted(queue, 1.4) == []
    assert doubted(queue, 1.9) == []
    assert doubted(queue, 2.1) == ["late"]
    # One that is repeated by who is in time holds up nobody.
    queue.suspect("late", 2.1)
    (repeat,) = queue.decide(2.1).sent
    queue.trust("late")
    assert repeat.worker.name == "other"
    assert doubted(queue, 3.0) == []
    # And when that one is late, too, there is nobody idle.
    assert doubted(queue, 100.0) == []


def test_where_nothing_is_known_an_answer_that_does_not_come_is_doubted_after_some_seconds():
    queue = Queue()
    for name in ("one", "two"):
        queue.add_worker(name, name, 1)
    queue.add()
    (chunk,) = queue.decide(0.0).sent
    assert doubted(queue, 1.0) == []
    assert doubted(queue, 6.0) == [chunk.worker.name]


def test_who_is_suspected_loses_nothing_and_gets_nothing_until_it_is_heard_from():
    queue = pair(waiting=3)
    late = queue.workers["late"]
    had = {item for chunk in late.chunks for item in chunk.items}
    queue.suspect("late", 3.0)
    assert late.state is WorkerState.SUSPECTED
    assert all(item.waits for item in had)
    assert not queue.decide(3.0).sent
    queue.set_status("late", "running")
    assert not queue.decide(3.1).sent
    # It answers: what it still has is expected of it again.
    first, *others = late.chunks
    queue.finished(first, [3.0] * len(first.items), 3.2)
    assert late.state is WorkerState.RUNNING
    assert not any(item.waits for chunk in others for item in chunk.items)
    # A question is answered.
    queue.suspect("late", 3.3)
    queue.trust("late")
    assert late.state is WorkerState.RUNNING


def test_an_item_beyond_all_lengths_is_repeated_though_lengths_are_uneven():
    queue = Queue({"late": 1.0, "slow": 0.5})
    queue.add_worker("late", "late", 1)
    for length in (0.5, 0.5, 0.5, 4.0, 0.5):
        queue.rates.add("late", [1.0], [length])
    assert queue.rates.uneven
    queue.add()
    queue.decide(0.0)
    queue.add_worker("slow", "slow", 1)
    begin = next(now / 10 for now in range(1, 1000) if queue.decide(now / 10).sent)
    # As long as it may be an item as long as the longest, which takes the slow one twice as long, that is of no use.
    assert 4.0 < begin < math.ceil(3 * 2 * 4.0)
