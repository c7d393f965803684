"""The queue's decisions, on workers that are not there."""

import gc
import math
import weakref
from collections import Counter
from statistics import median

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tritoncluster.balance.agenda import Agenda
from tritoncluster.balance.chunking import SUSPECTS
from tritoncluster.balance.model import Chunk, Item, Worker
from tritoncluster.balance.pool import NEAR, Pool
from tritoncluster.balance.queue import Queue
from tritoncluster.balance.rates import Rates
from tritoncluster.balance.simulation import SimulatedWorker, Simulation

# Some seconds of life, death and sleep; every cluster has one worker that stays well, or nothing would ever end.
moments = st.one_of(st.just(math.inf), st.floats(0, 20))
workers = st.builds(
    SimulatedWorker,
    speed=st.floats(0.05, 5),
    threads=st.integers(1, 4),
    comes=st.floats(0, 5),
    dies=moments,
    hangs=moments,
    changes=moments,
    factor=st.floats(0.1, 3),
)
crews = st.builds(
    lambda well, others: [well, *others],
    st.builds(SimulatedWorker, speed=st.floats(0.2, 5), threads=st.integers(1, 4)),
    st.lists(workers, max_size=5),
)
costs = st.lists(st.floats(0.001, 3), min_size=1, max_size=80)


def none_idle_while_work_waits(queue: Queue, now: float) -> None:
    if queue._items.first is None or not any(worker.idle for worker in queue.workers.values()):
        return
    # Others will have done it before an answer of that worker could be there.
    assert any(worker.chunks for worker in queue.workers.values())
    pool = queue._pool
    assert queue._items.waiting_cost + pool.backlog(now) <= NEAR * pool.power


def queue_of(speeds: dict[str, float], items: int, *, known: bool = True) -> Queue:
    """Make a queue of items, all alike, and of workers whose speeds are known from an earlier run, or not."""
    queue = Queue(speeds if known else {})
    for name in speeds:
        queue.add_worker(name, name, 1)
    for _ in range(items):
        queue.add()
    return queue


def items_of(worker: Worker) -> list[Item]:
    return [item for chunk in worker.chunks for item in chunk.items]


def numbers(chunk: Chunk) -> list[int]:
    return [item.number for item in chunk.items]


@settings(max_examples=150)
@given(pool=crews, costs=costs, told=st.booleans(), earlier=st.booleans(), patience=st.floats(0.5, 40))
def test_each_item_is_answered_once_whatever_workers_do(pool, costs, told, earlier, patience):
    simulation = Simulation(
        pool,
        costs,
        told=costs if told else None,
        earlier=earlier,
        patience=patience,
        watch=none_idle_while_work_waits,
    )
    result = simulation.run()
    assert Counter(result.answers) == Counter(range(len(costs)))
    assert simulation.queue.left == 0


@settings(max_examples=60)
@given(pool=crews, costs=costs)
# Chunks are stolen from one that has several behind those that run.
@example(
    pool=[SimulatedWorker(1.0, threads=3), SimulatedWorker(1.0), *[SimulatedWorker(1.0, comes=1.0) for _ in range(2)]],
    costs=[1.0] * 7,
)
def test_pieces_hold_only_items_that_wait(pool, costs):
    def watch(queue: Queue, _now: float) -> None:
        held = Counter(item for worker in queue.workers.values() for item in items_of(worker))
        assert all(len(item.holders) == number for item, number in held.items())
        for worker in queue.workers.values():
            assert len(worker.chunks) <= worker.threads + math.ceil(worker.threads / 2)
        assert all(len(items) == len(set(items)) for items in map(items_of, queue.workers.values()))

    Simulation(pool, costs, watch=watch).run()


@settings(max_examples=50)
@given(speeds=st.lists(st.floats(0.05, 1), min_size=2, max_size=12), earlier=st.booleans())
def test_equal_items_end_within_one_item_of_the_ideal(speeds, earlier):
    pool = [SimulatedWorker(speed) for speed in speeds]
    result = Simulation(pool, [0.01] * 3000, earlier=earlier).run()
    # The longest that anyone can be late with: a chunk that is cut short of nothing, on the slowest.
    assert result.seconds <= 1.05 * result.bound + 0.2 + 2 * 0.01 / min(speeds)


@given(
    speeds=st.lists(st.floats(0.5, 500), min_size=1, max_size=12),
    known=st.booleans(),
    more=st.integers(0, 2000),
)
def test_a_run_begins_as_soon_as_more_items_would_change_none_of_its_first_pieces(speeds, known, more):
    room = {str(place): speed for place, speed in enumerate(speeds)}

    def first_pieces(number: int) -> list[tuple[str, int]]:
        sent = queue_of(room, number, known=known).decide(0.0).sent
        return [(chunk.worker.name, len(chunk.items)) for chunk in sent]

    growing, needed = queue_of(room, 0, known=known), 0
    while not growing.may_begin(0.0):
        growing.add()
        needed += 1
    assert first_pieces(needed) == first_pieces(needed + more)


def test_no_run_begins_while_a_longer_item_may_come():
    queue = queue_of({"fast": 1.0, "slow": 0.25}, 100)
    assert queue.may_begin(0.0)
    queue.add(cost=2.0)
    assert not queue.may_begin(0.0)


def test_long_items_are_begun_first():
    begun: list[int] = []

    def watch(queue: Queue, _now: float) -> None:
        for worker in queue.workers.values():
            running = [item.number for chunk in worker.running for item in chunk.items]
            begun.extend(number for number in running if number not in begun)

    costs = [1.0, 5.0, 0.5, 7.0, 2.0, 9.0]
    Simulation([SimulatedWorker(1.0)], costs, told=costs, watch=watch).run()
    assert begun == sorted(range(6), key=lambda item: -costs[item])


def test_pieces_shrink_towards_the_end_and_are_few():
    sizes: dict[int, int] = {}

    def watch(queue: Queue, _now: float) -> None:
        for worker in queue.workers.values():
            sizes.update({chunk.items[0].number: len(chunk.items) for chunk in worker.chunks})

    pool = [SimulatedWorker(1.0), SimulatedWorker(0.25), SimulatedWorker(0.25)]
    result = Simulation(pool, [0.005] * 10_000, earlier=True, watch=watch).run()
    in_order = [sizes[item] for item in sorted(sizes)]
    assert max(in_order[: len(in_order) // 4]) > 10 * max(in_order[-3:])
    assert result.chunks < 100 * len(pool)


def test_what_a_slowed_worker_has_is_repeated():
    # At a tenth of its speed, what it holds would take it as long as the others for all.
    slowed = SimulatedWorker(1.0, changes=5.0, factor=0.1)
    result = Simulation([slowed, SimulatedWorker(0.25), SimulatedWorker(0.25)], [0.01] * 1500, earlier=True).run()
    after = result.bound - 5.0
    assert result.seconds - 5.0 <= 1.1 * after


def test_a_piece_is_cut_where_its_worker_and_an_idle_one_end_together():
    queue = Queue()
    for name, speed in (("slow", 100.0), ("fast", 1000.0)):
        queue.rates.add(name, [1.0] * 1000, [1 / speed] * 1000)
    for _ in range(20):
        queue.add()
    queue.add_worker("slow", "slow", 1)
    (chunk,) = queue.decide(0.0).sent
    assert numbers(chunk) == list(range(20))
    queue.add_worker("fast", "fast", 1)
    decision = queue.decide(0.05)
    # At 0.05 s five are done, and the others would take 0.15 s; the fast one starts after a message's time.
    assert decision.shortened == [chunk]
    assert 8 <= len(chunk.items) <= 11
    (rest,) = decision.sent
    assert numbers(rest) == list(range(len(chunk.items), 20))
    # It was told too late, and did two more.
    finished = queue.finished(chunk, [0.01] * (len(chunk.items) + 2), 0.12)
    assert finished.new == list(range(len(chunk.items)))
    assert queue.left == len(rest.items)
    queue.finished(rest, [0.001] * len(rest.items), 0.13)
    assert not queue.left


def test_the_last_items_are_left_to_whose_answers_come_first():
    queue = queue_of({"slow": 40.0, "fast": 400.0}, 60)
    (chunk,) = queue.decide(0.0).sent
    # They take the fast one 0.15 s, and the slow one as long to get a chunk and answer it.
    assert chunk.worker.name == "fast"
    assert len(chunk.items) == 60
    # Ten times as many are worth its while.
    for _ in range(600):
        queue.add()
    assert "slow" in {chunk.worker.name for chunk in queue.decide(0.0).sent}


@pytest.mark.parametrize("slow", [1, 10, 300])
@pytest.mark.parametrize("busy_for", [0.4, 5.0])
def test_slow_ones_take_what_comes_while_the_fastest_is_busy_or_hangs(slow, busy_for):
    queue = Queue({"fast": 1.0} | {f"slow {number}": 0.1 for number in range(slow)})
    queue.add_worker("fast", "fast", 1)
    queue.add(busy_for)
    queue.decide(0.0)
    for number in range(slow):
        queue.add_worker(f"slow {number}", f"slow {number}", 1)
    queue.add(0.03)
    sent = [chunk for tick in range(1, 11) for chunk in queue.decide(0.1 * tick).sent]
    assert any(1 in numbers(chunk) and chunk.worker.name != "fast" for chunk in sent)


def test_an_item_that_comes_late_is_sent_though_all_are_slower_than_they_were_known_for():
    known = {f"known {number}": 500.0 for number in range(100)}
    queue = Queue({"new": 1000.0} | known)
    for name in known:
        queue.add_worker(name, name, 1)
    for begin, end in ((0.0, 0.002), (0.002, 0.0044)):
        for _ in known:
            queue.add()
        sent = queue.decide(begin).sent
        if begin:
            queue.add_worker("new", "new", 1)
            queue.decide(begin)
        for chunk in sent:
            queue.finished(chunk, [(end - begin) / len(chunk.items)] * len(chunk.items), end)
    assert queue.left == 0
    queue.add()
    assert queue.decide(0.1).sent


@given(
    speeds=st.lists(st.floats(50, 200), min_size=2, max_size=4),
    slower=st.lists(st.floats(0.1, 10), min_size=30, max_size=30),
)
def test_items_that_come_one_by_one_are_each_sent_at_once_however_wrong_known_speeds_are(speeds, slower):
    queue = queue_of({str(place): speed for place, speed in enumerate(speeds)}, 0)
    now = 0.0
    for factor in slower:
        queue.add()
        sent = queue.decide(now).sent
        assert sent
        for chunk in sent:
            seconds = factor * len(chunk.items) / 100
            now += seconds
            # A part of the time only was its items': it is shared, or answers late.
            queue.finished(chunk, [seconds / 10 / len(chunk.items)] * len(chunk.items), now)


def test_a_slow_idle_worker_is_no_reason_to_leave_a_piece_whole():
    def cut(*idle: str) -> int:
        queue = Queue({"middle": 100.0, "fast": 100.0, "slow": 10.0})
        queue.add_worker("middle", "middle", 1)
        for _ in range(20):
            queue.add()
        (chunk,) = queue.decide(0.0).sent
        for name in idle:
            queue.add_worker(name, name, 1)
        queue.decide(0.03)
        return len(chunk.items)

    assert cut("fast", "slow") == cut("fast") < 20


def test_killed_worker_costs_its_own_pieces():
    undisturbed = [SimulatedWorker(1.0), SimulatedWorker(1.0), SimulatedWorker(1.0)]
    killed = [SimulatedWorker(1.0), SimulatedWorker(1.0), SimulatedWorker(1.0, dies=5.0)]
    alone = Simulation(undisturbed, [0.01] * 3000, earlier=True).run()
    result = Simulation(killed, [0.01] * 3000, earlier=True).run()
    assert alone.seconds <= 1.05 * alone.bound
    assert result.seconds <= 1.1 * result.bound


def test_hung_worker_is_given_up_by_the_rule():
    queue = Queue(patience=20.0)
    for name in ("well", "hung"):
        queue.add_worker(name, name, 1)
    for _ in range(100):
        queue.add()
    now, given_up = 0.0, None
    sent = queue.decide(now).sent
    chunks = {chunk.worker.address: [each for each in sent if each.worker is chunk.worker] for chunk in sent}
    while given_up is None and now < 100:
        now += 1.0
        done = chunks["well"].pop(0)
        queue.finished(done, [1.0 / len(done.items)] * len(done.items), now)
        sent = queue.decide(now).sent
        chunks["well"] += [chunk for chunk in sent if chunk.worker.address == "well"]
        if not queue.workers["hung"].trusted:
            given_up = now
    # More than ten times as long as expected, a second at most for each of its chunks, and more than its patience.
    assert given_up is not None
    assert 20 < given_up <= 23
    hung = queue.workers["hung"].chunks
    assert not queue.workers["hung"].idle
    # It answers after all, and gets work again.
    queue.finished(hung[0], [1.0] * len(hung[0].items), now)
    assert queue.workers["hung"].trusted


def test_worker_that_leaves_gets_no_more_and_its_items_wait():
    queue = Queue()
    queue.add_worker("stays", "stays", 1)
    queue.add_worker("leaves", "leaves", 1)
    for _ in range(4):
        queue.add()
    queue.decide(0.0)
    queue.set_status("leaves", "closing_gracefully")
    sent = queue.decide(0.1).sent
    assert all(chunk.worker.address == "stays" for chunk in sent)
    queue.set_status("leaves", "running")
    assert queue.workers["leaves"].trusted


def test_item_that_takes_workers_down_is_counted_and_sent_with_ever_fewer_others():
    queue = Queue({str(number): 100.0 for number in range(5)})
    for _ in range(1000):
        queue.add()
    sizes = []
    for number in range(5):
        queue.add_worker(str(number), str(number), 1)
        first, *_ = queue.decide(float(number)).sent
        assert 0 in numbers(first)
        assert {item.losses for item in first.items} == {number}
        sizes.append(len(first.items))
        queue.remove_worker(str(number))
    assert sizes[0] > SUSPECTS
    assert sizes[1:] == [16, 4, 1, 1]


def test_what_a_killed_worker_had_is_soon_made_good():
    # From then on two slow workers have to do the rest, in chunks that are not small because some of it was lost.
    room = [SimulatedWorker(1.0, dies=30.0), SimulatedWorker(0.25), SimulatedWorker(0.25)]
    result = Simulation(room, [0.005] * 18000, earlier=True, noise=0.1).run()
    more = (result.seconds - result.bound) * 0.5 / 0.005
    assert 0 < more < result.lost


def test_short_items_are_not_uneven_because_workers_are():
    rates = Rates()
    for _ in range(50):
        rates.add("fast", [1.0] * 80, [0.002] * 80)
        rates.add("slow", [1.0] * 10, [0.02] * 9 + [0.1])  # stopped for a while, as its share was used up
    assert not rates.uneven
    for _ in range(50):
        rates.add("fast", [1.0] * 10, [0.05] * 9 + [2.0])
    assert rates.uneven


def test_a_slow_worker_gets_longer_pieces():
    # What each costs it beside the items takes longer there, too.
    seen = {"0": set(), "1": set()}

    def watch(queue: Queue, _now: float) -> None:
        for name, worker in queue.workers.items():
            seen[name].update(worker.chunks)

    simulation = Simulation([SimulatedWorker(1.0), SimulatedWorker(0.1)], [0.002] * 10_000, earlier=True, watch=watch)
    simulation.run()
    fast, slow = ([chunk.cost * 0.002 / speed for chunk in seen[name]] for name, speed in (("0", 1.0), ("1", 0.1)))
    assert median(slow) > 2 * median(fast)


def test_speeds_are_remembered_and_scaled():
    queue = queue_of({"fast": 1000.0, "slow": 100.0}, 10_000)
    sent = queue.decide(0.0).sent
    sizes = {chunk.worker.name: len(chunk.items) for chunk in sent}
    assert sizes["fast"] > 5 * sizes["slow"]
    # Items are a thousand times as long this time: what is measured on one worker tells of the other.
    fast = next(chunk for chunk in sent if chunk.worker.name == "fast")
    queue.finished(fast, [1.0] * len(fast.items), 1.0 * len(fast.items))
    assert queue.rates.speed("slow") == pytest.approx(0.1)
    assert queue.rates.to_remember() == pytest.approx({"fast": 1.0, "slow": 0.1})


def test_what_waits_behind_a_hung_piece_is_taken_by_who_is_idle():
    hung, well = SimulatedWorker(1.0, hangs=1.0), SimulatedWorker(1.0)
    result = Simulation([hung, well], [0.1] * 60, earlier=True).run()
    assert result.seconds < 7  # long before anything is a straggler


def test_a_hung_worker_is_given_up_though_all_who_were_measured_are_gone():
    late = [SimulatedWorker(1.0, comes=2.0) for _ in range(3)]
    pool = [SimulatedWorker(1.0), *late, SimulatedWorker(1.0, threads=2, hangs=0.0), SimulatedWorker(2.0, dies=2.0)]
    result = Simulation(pool, [2.0, 1.0, 1.0, 1.0, 0.25]).run()
    assert sorted(result.answers) == list(range(5))


def test_what_is_answered_is_forgotten():
    # Work without an end: each answer brings a new item.
    queue = queue_of({"fast": 100.0, "slow": 10.0}, 0)
    alive: list[weakref.ref[object]] = []

    class Payload:
        pass

    def add() -> None:
        payload = Payload()
        alive.append(weakref.ref(payload))
        queue.add(payload=payload)

    now, answered = 0.0, 0
    for _ in range(50):
        add()
    while answered < 3000:
        now += 0.1
        for chunk in queue.decide(now).sent:
            new = len(queue.finished(chunk, [0.01] * len(chunk.items), now).new)
            answered += new
            for _ in range(new):
                add()
    del chunk
    gc.collect()
    assert sum(each() is not None for each in alive) == queue.left == 50


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.floats(0, 10)))), st.floats(0, 10))
def test_an_agenda_knows_whose_moment_comes_first(changes, when: float):
    agenda, workers, moments = Agenda(), [Worker(str(number), str(number), 1) for number in range(10)], {}
    for number, moment in changes:
        if moment is None:
            agenda.drop(workers[number])
            moments.pop(number, None)
        else:
            agenda.put(workers[number], moment)
            moments[number] = moment
        early = [int(worker.name) for worker in agenda.before(when)]
        assert sorted(early) == sorted(each for each, moment in moments.items() if moment < when)
        assert [moments[each] for each in early] == sorted(moments[each] for each in early)


@pytest.mark.parametrize("length", [0.1, 10.0])
def test_a_decision_among_many_workers_looks_at_few_of_them(monkeypatch: pytest.MonkeyPatch, length: float):
    looks = 0

    def look_at(self: Pool, worker: Worker, now: float) -> None:
        nonlocal looks
        looks += 1
        original(self, worker, now)

    original = Pool.look_at
    monkeypatch.setattr(Pool, "look_at", look_at)
    workers = [SimulatedWorker(20 ** -(number / 500)) for number in range(500)]
    result = Simulation(workers, [length] * 20_000, earlier=True).run()
    # Two are needed, when a chunk is sent and when it is answered.
    assert looks < 6 * result.chunks


@given(st.integers(2, 60), st.integers(1, 5))
def test_what_is_cut_off_a_chunk_waits_again(number: int, most: int):
    queue = Queue({"a": 100.0})
    items = [queue.add() for _ in range(number)]
    queue.add_worker("a", "a", 1)
    answered, now = [], 0.0
    while queue.left:
        for chunk in queue.decide(now).sent:
            if len(chunk.items) > most:
                queue.cut_short(chunk, most, now)
            now += 0.01 * len(chunk.items)
            finished = queue.finished(chunk, [0.01] * len(chunk.items), now)
            answered += [chunk.items[place] for place in finished.new]
        now += 0.1
    assert sorted(item.number for item in answered) == [item.number for item in items]
