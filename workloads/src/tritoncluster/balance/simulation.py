"""A run on workers that are not there: the queue's own decisions, driven by a clock that is only a number.

It tells how a job would end on a cluster of another shape, and lets tests do to workers what is hard to do to real
ones.
"""

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from tritoncluster.balance.crew import Piece
from tritoncluster.balance.queue import PATIENCE, Queue

#: Seconds between looks at what is late, and until a lost worker is noticed.
TICK, NOTICE = 0.1, 0.5
#: Seconds that a piece costs the fastest worker beside its items, others more as they are slower; and a message's.
OVERHEAD, DELAY = 0.004, 0.003


@dataclass
class SimulatedWorker:
    """A worker that is not there.

    Parameters
    ----------
    speed
        Cost a second of each thread.
    threads
        How many.
    comes, dies, hangs
        Seconds after the run's start at which it does; one that hangs says nothing any more, and is still there.
    changes, factor
        When its speed changes, and by what it is multiplied then.
    """

    speed: float
    threads: int = 1
    comes: float = 0.0
    dies: float = math.inf
    hangs: float = math.inf
    changes: float = math.inf
    factor: float = 1.0

    def end(self, start: float, cost: float) -> float:
        """Give when work that is begun at `start` is done."""
        if start >= self.changes:
            return start + cost / (self.speed * self.factor)
        before = (self.changes - start) * self.speed
        return start + cost / self.speed if cost <= before else self.end(self.changes, cost - before)

    def capacity(self, until: float) -> float:
        """Give the cost that it could do by then."""
        stop = min(until, self.dies, self.hangs)
        early, late = max(0.0, min(stop, self.changes) - self.comes), max(0.0, stop - max(self.changes, self.comes))
        return self.threads * self.speed * (early + late * self.factor)


@dataclass
class Simulated:
    """What came out.

    Attributes
    ----------
    seconds, bound
        How long it took, and how long it would take if work could be divided at will; of the longest item, too.
    pieces, deciding
        Pieces that were sent, and the seconds of this process that the decisions took.
    lost
        Items in pieces that a worker had begun when it died.
    answers
        Items in the order in which they were answered first.
    """

    seconds: float = 0.0
    bound: float = 0.0
    pieces: int = 0
    deciding: float = 0.0
    lost: int = 0
    answers: list[int] = field(default_factory=list)


class Simulation:
    """Workers, a queue and a clock.

    Parameters
    ----------
    workers
        Who there is.
    costs
        What an item really takes, in seconds of a worker of speed 1.
    told
        What the queue is told of an item's cost; 1 where nothing is.
    earlier
        Speeds that the queue knows, by the worker's place; or none.
    noise
        The part by which lengths vary at random.
    watch
        Called after each decision.
    """

    def __init__(
        self,
        workers: Sequence[SimulatedWorker],
        costs: Sequence[float],
        *,
        told: Sequence[float] | None = None,
        earlier: bool = False,
        noise: float = 0.0,
        patience: float = PATIENCE,
        watch: Callable[[Queue, float], None] = lambda _queue, _now: None,
    ) -> None:
        self.workers = {str(place): worker for place, worker in enumerate(workers)}
        speeds = {name: worker.speed for name, worker in self.workers.items()} if earlier else {}
        self.queue = Queue(speeds, patience=patience)
        self.costs, self.noise, self.watch = costs, noise, watch
        for place in range(len(costs)):
            self.queue.add(told[place] if told else 1.0)
        self.result = Simulated(bound=self._bound())
        self._fastest = max((worker.speed for worker in workers), default=1.0)
        self._random = random.Random(0)  # noqa: S311 - no secrets
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        self._queued: dict[str, deque[Piece]] = {name: deque() for name in self.workers}
        self._free = {name: worker.threads for name, worker in self.workers.items()}
        self._unwanted: set[Piece] = set()
        # When each item of a running piece ends, after its start.
        self._ends: dict[Piece, list[float]] = {}

    def run(self) -> Simulated:
        """Run to the end.

        Raises
        ------
        RuntimeError
            When nothing can happen any more, and items are left.
        """
        for name, worker in self.workers.items():
            if worker.dies > worker.comes:
                self._at(worker.comes, partial(self._come, name))
                if worker.dies < math.inf:
                    self._at(worker.dies + NOTICE, partial(self._die, name))
        self._at(0.0, self._tick)
        now = 0.0
        while self.queue.left:
            now, _, happen = heapq.heappop(self._events)
            if now > 1e9:
                raise RuntimeError(f"{self.queue.left} items are left, and nobody computes them")
            happen(now)
            if not self._events or self._events[0][0] > now:
                self._decide(now)
        self.result.seconds = now
        return self.result

    def _bound(self) -> float:
        # The time by which all together could have done all: bisection, because workers come, go and change.
        total, low, high = math.fsum(self.costs), 0.0, 1e9
        for _ in range(100):
            middle = (low + high) / 2
            enough = math.fsum(worker.capacity(middle) for worker in self.workers.values()) >= total
            low, high = (low, middle) if enough else (middle, high)
        return high

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, happen))

    def _tick(self, now: float) -> None:
        # Ever less often: a worker that is given up after a day needs no million looks.
        self._at(now + max(TICK, now / 100), self._tick)

    def _come(self, name: str, _now: float) -> None:
        self.queue.add_worker(name, name, self.workers[name].threads)

    def _die(self, name: str, _now: float) -> None:
        pieces = self.queue.remove_worker(name)
        self.result.lost += sum(len(piece.items) for piece in pieces if piece.start is not None)
        self._unwanted.update(pieces)

    def _decide(self, now: float) -> None:
        clock = time.perf_counter()
        decision = self.queue.decide(now)
        self.result.deciding += time.perf_counter() - clock
        self.result.pieces += len(decision.sent)
        self._unwanted.update(decision.taken)
        for piece in decision.shortened:
            self._at(now + DELAY, partial(self._shorten, piece, len(piece.items)))
        for piece in decision.sent:
            self._at(now + DELAY, partial(self._arrive, piece))
        self.watch(self.queue, now)

    def _arrive(self, piece: Piece, now: float) -> None:
        self._queued[piece.worker.name].append(piece)
        self._begin(piece.worker.name, now)

    def _begin(self, name: str, now: float) -> None:
        worker, queued = self.workers[name], self._queued[name]
        while self._free[name] and queued and now < min(worker.dies, worker.hangs):
            piece = queued.popleft()
            if piece in self._unwanted:
                continue
            self._free[name] -= 1
            ends = [now]
            for item in piece.items:
                cost = self.costs[item] * (1 + self.noise * self._random.uniform(-1, 1))
                ends.append(worker.end(ends[-1], cost))
            self._ends[piece] = ends
            self._plan(piece)

    def _plan(self, piece: Piece) -> None:
        worker, ends = self.workers[piece.worker.name], self._ends[piece]
        end = ends[-1] + OVERHEAD * self._fastest / worker.speed
        if end < min(worker.dies, worker.hangs):
            self._at(end, partial(self._finish, piece, len(ends)))

    def _shorten(self, piece: Piece, number: int, now: float) -> None:
        ends = self._ends.get(piece, [])
        # What it has begun by then is finished.
        last = max(number, sum(end <= now for end in ends))
        if last < len(ends) - 1:
            del ends[last + 1 :]
            self._plan(piece)

    def _finish(self, piece: Piece, number: int, now: float) -> None:
        ends = self._ends.get(piece, [])
        if len(ends) != number:
            # It was made shorter since this was planned.
            return
        del self._ends[piece]
        self._free[piece.worker.name] += 1
        self._begin(piece.worker.name, now)
        seconds = [end - begin for begin, end in pairwise(ends)]
        self._at(now + DELAY, partial(self._answer, piece, seconds))

    def _answer(self, piece: Piece, seconds: list[float], now: float) -> None:
        if piece in self._unwanted:
            return
        clock = time.perf_counter()
        finished = self.queue.finished(piece, seconds, now)
        self.result.deciding += time.perf_counter() - clock
        self._unwanted.update(finished.obsolete)
        self.result.answers += [piece.items[place] for place in finished.new]
