"""Whose turn it is, on a worker that is not there: time is a number, and Dask's part is played here."""

import itertools
from dataclasses import dataclass

import pytest

from tritoncluster.balance.turns import OTHERS, Seen, Stage, Turn, Turns

STEP = 0.01


@dataclass(eq=False)
class Chunk:
    """A chunk of a run that has always more to do."""

    key: str
    said: dict
    item: float
    turn: Turn | None = None
    ends: float = 0.0
    in_thread: bool = False


class Worker:
    """Threads as Dask has them: a free one goes to a chunk that comes back, else to one of ours that waits."""

    def __init__(self, threads: int) -> None:
        self.turns, self.threads, self.now = Turns(), threads, 0.0
        self.chunks: list[Chunk] = []
        self.others_ends: list[float] = []
        self.others_ready, self.others_length = 0, 0.02
        self.used: dict[str, float] = {}
        self.idle = 0.0
        self._keys = itertools.count()

    def add(self, run: str, weight: float = 1.0, item: float = 0.01, number: int | None = None) -> None:
        for _ in range(number or self.threads):
            said = {"run": run, "weight": weight, "work": "work", "who": "somebody"}
            self.chunks.append(Chunk(f"{run}-{next(self._keys)}", said, item))

    def remove(self, run: str) -> None:
        for chunk in [chunk for chunk in self.chunks if chunk.said["run"] == run]:
            if chunk.turn:
                self.turns.end(chunk.turn, self.now)
            self.chunks.remove(chunk)

    def go(self, seconds: float) -> dict[str, float]:
        """Let time pass; give the seconds that each had threads meanwhile, others as OTHERS."""
        before = dict(self.used)
        end = self.now + seconds
        while self.now < end:
            self._step()
        return {run: used - before.get(run, 0.0) for run, used in self.used.items()}

    def _seen(self) -> Seen:
        begun = {chunk.key: chunk.said for chunk in self.chunks if chunk.turn is None}
        return Seen(self.threads, begun, len(self.others_ends), self.others_ready)

    @property
    def _free(self) -> int:
        return self.threads - len(self.others_ends) - sum(chunk.in_thread for chunk in self.chunks)

    def _step(self) -> None:
        self.now += STEP
        self.others_ends = [end for end in self.others_ends if end > self.now]
        self._hand_out()
        for chunk in self.chunks:
            if chunk.in_thread and chunk.ends <= self.now:
                self._next_item(chunk)
                self._hand_out()
        for chunk in self.chunks:
            if chunk.turn and chunk.turn.stage is Stage.PAUSED:
                self.turns.resumes(chunk.turn, self._seen(), self.now)
                self._hand_out()
        self.used[OTHERS] = self.used.get(OTHERS, 0.0) + STEP * len(self.others_ends)
        for chunk in self.chunks:
            run = chunk.said["run"]
            self.used[run] = self.used.get(run, 0.0) + STEP * chunk.in_thread
        self.idle += STEP * self._free

    def _hand_out(self) -> None:
        for chunk in self.chunks:
            if self._free > 0 and chunk.turn and chunk.turn.stage is Stage.COMING:
                self.turns.came(chunk.turn, self.now)
                chunk.in_thread, chunk.ends = True, self.now + chunk.item
        for chunk in self.chunks:
            if self._free > 0 and chunk.turn is None:
                chunk.turn = self.turns.begin(chunk.key, chunk.said, self._seen(), self.now)
                chunk.in_thread = True
                self._next_item(chunk)
        while self._free > 0 and self.others_ready:
            self.others_ready -= 1
            self.others_ends.append(self.now + self.others_length)

    def _next_item(self, chunk: Chunk) -> None:
        paused = chunk.turn.stage is Stage.PAUSED or self.turns.pauses(chunk.turn, self._seen(), self.now)
        chunk.in_thread, chunk.ends = not paused, self.now + chunk.item


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("weights", "items"),
    [([1, 1], [0.01, 0.01]), ([1, 3], [0.1, 0.01]), ([0.5, 1, 2], [0.01, 0.2, 0.05]), ([1, 1, 1, 1], [0.01] * 4)],
)
def test_runs_share_threads_by_weight(threads: int, weights: list[float], items: list[float]):
    worker = Worker(threads)
    for number, (weight, item) in enumerate(zip(weights, items, strict=True)):
        worker.add(str(number), weight, item)
    used = worker.go(30.0)
    for number, weight in enumerate(weights):
        assert used[str(number)] == pytest.approx(30 * threads * weight / sum(weights), rel=0.15)
    assert worker.idle < 0.03 * 30 * threads


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("length", "item", "clients"), [(0.01, 0.01, 0), (0.2, 0.01, 1), (0.02, 0.2, 1), (0.02, 0.02, 3), (1.0, 0.02, 1)]
)
def test_others_have_their_share(threads: int, length: float, item: float, clients: int):
    worker = Worker(threads)
    worker.add("ours", item=item)
    worker.go(1.0)
    worker.others_ready, worker.others_length = 10**9, length
    used = 0.0
    for _ in range(8):
        worker.turns.know(clients, worker.now, queued=False)
        used += worker.go(5.0)[OTHERS]
    weight = max(1, clients)
    assert used / (40 * threads) == pytest.approx(weight / (1 + weight), abs=0.1)
    assert worker.idle < 0.03 * 40 * threads


def test_who_comes_is_served_at_once_and_who_was_away_has_saved_nothing():
    worker = Worker(1)
    worker.add("long")
    worker.go(50.0)
    worker.add("short")
    assert worker.go(0.2)["short"] > 0.1
    shares = worker.go(20.0)
    assert shares["short"] == pytest.approx(shares["long"], rel=0.1)
    worker.remove("short")
    assert worker.go(10.0)["long"] > 9.7
    worker.add("short")
    shares = worker.go(20.0)
    assert shares["short"] == pytest.approx(shares["long"], rel=0.1)


def test_a_lone_run_never_pauses():
    worker = Worker(3)
    worker.add("lone", number=5)
    worker.go(10.0)
    assert worker.idle < 0.05
    stages = [chunk.turn.stage for chunk in worker.chunks if chunk.turn]
    assert stages == [Stage.COMPUTING] * 3


def test_seldom_tasks_of_others_do_not_wait():
    worker = Worker(1)
    worker.add("ours")
    worker.go(5.0)
    for _ in range(20):
        worker.others_ready += 1
        # At the end of an item it gets the thread.
        assert worker.go(0.06)[OTHERS] > 0.015
        worker.go(1.0)
    assert worker.idle < 0.2


def test_a_thread_that_nobody_takes_is_not_left_idle():
    worker = Worker(1)
    worker.add("ours")
    worker.go(5.0)
    # They wait at the scheduler, but none comes.
    for _ in range(10):
        worker.turns.know(1, worker.now, queued=True)
        worker.go(2.0)
    assert worker.idle < 0.1 * 20


def test_long_item_is_paid_for():
    worker = Worker(1)
    worker.add("long items", item=5.0)
    worker.add("short items", item=0.01)
    used = worker.go(100.0)
    assert used["long items"] == pytest.approx(used["short items"], rel=0.1)


def test_what_others_used_is_known_since_a_run_came():
    worker = Worker(1)
    worker.add("first")
    worker.go(10.0)
    worker.add("second", weight=2.0)
    worker.others_ready = 10**9
    used = worker.go(20.0)
    beside = {said["run"]: (said.get("weight"), seconds) for said, seconds in worker.turns.beside("second")}
    assert beside["first"] == (1.0, pytest.approx(used["first"], rel=0.1))
    assert beside[OTHERS] == (None, pytest.approx(used[OTHERS], rel=0.1))
    assert "second" not in beside
