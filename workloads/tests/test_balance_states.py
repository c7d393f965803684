"""What becomes of items and workers when workers pause, leave, are suspected, are heard from, and are lost."""

import random
import weakref
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritoncluster.balance.chunking import CLIENT_SECONDS, LARGEST
from tritoncluster.balance.items import Items
from tritoncluster.balance.model import Chunk, Decision, Event, Item, WorkerState, following
from tritoncluster.balance.queue import MOST_SENT, Queue

#: What distributed calls the states of a worker that is about to close because somebody asked for it.
PLANNED = ["closing_gracefully", "closing", "closed", "stopping", "stopped"]
OTHERS = ["running", "paused", "init", "starting", "failed", "of a later version"]


class Drive:
    """A queue and what happened to it at random: each step is one that the driver of a queue may see."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secrets
        self.queue = Queue({"0": 1.0, "1": 5.0} if seed % 2 else {}, patience=self.random.choice([1.0, 30.0]))
        self.now, self.workers = 0.0, 0
        self.items: list[Item] = []
        self.answers: Counter[int] = Counter()

    def add(self) -> None:
        for _ in range(self.random.choice([1, 5, 40])):
            self.items.append(self.queue.add(self.random.choice([1.0, 1.0, 0.1, 9.0])))

    def add_worker(self) -> None:
        name = str(self.workers)
        self.workers += 1
        self.queue.add_worker(f"tcp://{name}", name, self.random.choice([1, 1, 2, 4]))

    def some(self) -> str | None:
        return self.random.choice(list(self.queue.workers)) if self.queue.workers else None

    def set_status(self) -> None:
        if address := self.some():
            self.queue.set_status(address, self.random.choice(["running", "running", "paused", "closing_gracefully"]))

    def suspect(self) -> None:
        if address := self.some():
            self.queue.suspect(address, self.now)

    def trust(self) -> None:
        if address := self.some():
            self.queue.trust(address)

    def remove_worker(self) -> None:
        if address := self.some():
            self.queue.remove_worker(address)

    def withdraw(self) -> None:
        if (address := self.some()) and (chunks := self.queue.workers[address].chunks):
            self.queue.withdrawn(self.random.choice(chunks), self.now, lost=self.random.random() < 0.5)

    def finish(self) -> None:
        if (address := self.some()) and (running := self.queue.workers[address].running):
            chunk = self.random.choice(running)
            length = self.random.choice([0.01, 0.1, 3.0])
            finished = self.queue.finished(chunk, [length] * len(chunk.items), self.now)
            self.answers.update(chunk.items[place].number for place in finished.new)
            assert all(not other.needed for other in finished.obsolete)

    def decide(self) -> Decision:
        self.now += self.random.choice([0.0, 0.01, 0.3, 8.0])
        decision = self.queue.decide(self.now)
        self.check()
        return decision

    def check(self) -> None:
        held = Counter[Chunk]()
        for worker in self.queue.workers.values():
            for chunk in worker.chunks:
                # What nobody needs is left only to who has to show that it is well.
                assert worker.state is WorkerState.SUSPECTED or chunk.needed
                held.update({chunk: 1})
        assert not held or max(held.values()) == 1
        for item in self.items:
            assert all(chunk in held for chunk in item.holders)
            # Someone computes it, or it waits.
            assert item.waits == (not item.done and not item.counted_upon)
        pool = self.queue._pool
        waiting = sum(item.cost for item in self.items if item.waits)
        assert self.queue._items.waiting_cost == pytest.approx(waiting)
        assert self.queue.left == sum(not item.done for item in self.items)
        able = [worker for worker in self.queue.workers.values() if worker.trusted]
        # Sums are kept, not added up each time.
        assert pool.power == pytest.approx(sum(worker.power for worker in self.queue.workers.values()))
        assert pool.power == pytest.approx(sum(worker.power for worker in able))
        busy = sum(until - self.now * power for power, until in (worker.busy for worker in able))
        assert pool.backlog(self.now) == pytest.approx(max(0.0, busy), abs=1e-6)
        assert pool.threads == sum(worker.threads for worker in self.queue.workers.values())
        assert pool.idle.keys() == {worker.address for worker in able if worker.idle}


@settings(max_examples=200)
@given(seed=st.integers(0, 10**9), steps=st.integers(10, 150))
def test_each_item_waits_or_is_computed_whatever_becomes_of_workers(seed, steps):
    drive = Drive(seed)
    happenings = [
        *[drive.finish] * 6,
        *[drive.decide] * 3,
        *[drive.add] * 2,
        *[drive.add_worker] * 2,
        *[drive.set_status] * 2,
        drive.suspect,
        drive.trust,
        drive.remove_worker,
        drive.withdraw,
    ]
    for _ in range(steps):
        drive.random.choice(happenings)()
        if drive.random.random() < 0.7:
            drive.decide()
    # All is well again: everything is answered, once.
    drive.add_worker()
    for address in drive.queue.workers:
        drive.queue.set_status(address, "running")
        drive.queue.trust(address)
    for _ in range(20 * len(drive.items) + 100):
        if not drive.queue.left:
            break
        drive.decide()
        drive.finish()
    drive.decide()
    assert drive.answers == Counter(range(len(drive.items)))


@given(st.lists(st.sampled_from(Event)))
def test_only_who_runs_is_suspected_and_who_is_gone_stays_gone(events):
    state = WorkerState.RUNNING
    for event in events:
        before, state = state, following(state, event)
        if state is WorkerState.SUSPECTED and before is not state:
            assert before is WorkerState.RUNNING
            assert event is Event.LATE
        # Being called running does not show that it answers.
        if before is WorkerState.SUSPECTED and state is WorkerState.RUNNING:
            assert event is Event.HEARD
        if before is WorkerState.GONE:
            assert state is WorkerState.GONE


def one_with_an_item() -> tuple[Queue, Item]:
    queue = Queue()
    queue.add_worker("one", "one", 1)
    item = queue.add()
    queue.decide(0.0)
    return queue, item


@pytest.mark.parametrize("status", PLANNED)
def test_planned_departures_are_no_losses(status):
    queue, item = one_with_an_item()
    for number in range(10):
        queue.set_status("one", status)
        queue.remove_worker("one")
        queue.add_worker("one", "one", 1)
        assert queue.decide(number + 1.0).sent[0].items == (item,)
    # It is told only when the worker is gone already.
    queue.remove_worker("one", planned=True)
    assert item.losses == 0


@pytest.mark.parametrize("status", OTHERS)
def test_deaths_are_losses_also_of_who_is_paused(status):
    queue, item = one_with_an_item()
    queue.set_status("one", status)
    queue.remove_worker("one")
    assert item.losses == 1
    assert item.waits


@pytest.mark.parametrize("status", [*PLANNED, *OTHERS])
def test_only_running_workers_get_more(status):
    queue = Queue({"one": 100.0, "two": 1.0})
    queue.add_worker("one", "one", 1)
    queue.add_worker("two", "two", 1)
    queue.set_status("one", status)
    for _ in range(1000):
        queue.add()
    names = {chunk.worker.name for chunk in queue.decide(0.0).sent}
    assert ("one" in names) == (status == "running")
    assert "two" in names


def test_what_others_have_answered_is_taken_from_who_is_counted_upon_again():
    queue = Queue({"away": 1.0, "here": 1.0})
    queue.add_worker("away", "away", 1)
    queue.add()
    (chunk,) = queue.decide(0.0).sent
    for away, back in (
        (lambda: queue.set_status("away", "paused"), lambda: queue.set_status("away", "running")),
        (lambda: queue.suspect("away", 1.0), lambda: queue.trust("away")),
    ):
        away()
        if "here" not in queue.workers:
            queue.add_worker("here", "here", 1)
        (repeat,) = queue.decide(1.0).sent
        assert repeat.items == chunk.items
        finished = queue.finished(repeat, [1.0], 2.0)
        assert finished.new == [0]
        back()
        # Of a paused worker it was said at once that nobody needs it.
        assert queue.decide(2.0).taken + finished.obsolete == [chunk]
        queue.remove_worker("here")
        assert not queue.workers["away"].chunks
        queue.add()
        (chunk,) = queue.decide(2.0).sent


def test_no_chunk_and_no_decision_is_so_large_that_all_else_stops():
    speeds = {str(number): 1e7 for number in range(3 * MOST_SENT)}
    queue = Queue(speeds)
    for name in speeds:
        queue.add_worker(name, name, 1)
    for _ in range(300_000):
        queue.add()
    decisions = [queue.decide(0.0)]
    while decisions[-1].more:
        decisions.append(queue.decide(0.0))
    sent = [chunk for decision in decisions for chunk in decision.sent]
    assert max(len(decision.sent) for decision in decisions) <= MOST_SENT
    assert max(len(chunk.items) for chunk in sent) <= LARGEST
    assert queue._items.first is None or not queue._pool.idle


def test_a_client_of_many_threads_makes_longer_chunks():
    names = [str(number) for number in range(1000)]
    queue = Queue()
    for name in names:
        queue.add_worker(name, name, 1)
        queue.rates.add(name, [0.1] * 1000, [0.1] * 1000)
    for _ in range(100_000):
        queue.add(0.1)
    sent, decision = [], queue.decide(0.0)
    while decision.more:
        sent += decision.sent
        decision = queue.decide(0.0)
    assert min(chunk.cost for chunk in sent) == pytest.approx(CLIENT_SECONDS * len(names))


def test_what_is_answered_while_it_waits_is_forgotten_also_behind_longer_items():
    class Payload:
        pass

    items, alive = Items(), []
    for _ in range(1000):
        payload = Payload()
        alive.append(weakref.ref(payload))
        # By who was not counted upon any more.
        item = items.add(1.0, payload)
        longer = items.add(9.0, None)
        items.answer(item)
        if items.left > 10:
            assert items.take().cost == longer.cost
            items.answer(longer)
        del item, payload
    assert sum(each() is not None for each in alive) <= 2 * items.left + 100
