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

from tritoncluster.balance.model import Chunk
from tritoncluster.balance.queue import PATIENCE, Queue

#: Seconds between looks at what is late, until a lost worker is noticed, and until a question without an answer is
#: held for one.
TICK, NOTICE, PROBE = 0.1, 0.5, 2.0
#: Seconds that a chunk costs the fastest worker beside its items, others more as they are slower; and a message's.
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
        Seconds after the run's start at which it does; one that hangs says nothing any more, also when it is asked, and
        is still there.
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
    chunks, deciding
        Chunks that were sent, and the seconds of this process that it took to decide and to take note of answers.
    decisions
        Seconds of this process that each decision took.
    lost
        Items in chunks that a worker had begun when it died.
    answers
        Items in the order in which they were answered first.
    """

    seconds: float = 0.0
    bound: float = 0.0
    chunks: int = 0
    deciding: float = 0.0
    decisions: list[float] = field(default_factory=list)
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
        self._queued: dict[str, deque[Chunk]] = {name: deque() for name in self.workers}
        self._free = {name: worker.threads for name, worker in self.workers.items()}
        self._unwanted: set[Chunk] = set()
        self._asked: set[str] = set()
        # When each item of a running chunk ends, after its start.
        self._ends: dict[Chunk, list[float]] = {}

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
        for worker in self.queue.doubtful(now):
            if worker.address not in self._asked:
                self._asked.add(worker.address)
                self._at(now + PROBE, partial(self._ask, worker.address, now))

    def _ask(self, name: str, asked: float, now: float) -> None:
        self._asked.discard(name)
        if name in self.queue.workers and self.workers[name].hangs <= asked:
            self.queue.suspect(name, now)

    def _come(self, name: str, _now: float) -> None:
        self.queue.add_worker(name, name, self.workers[name].threads)

    def _die(self, name: str, _now: float) -> None:
        chunks = self.queue.remove_worker(name)
        self.result.lost += sum(len(chunk.items) for chunk in chunks if chunk.start is not None)
        self._unwanted.update(chunks)

    def _decide(self, now: float) -> None:
        clock = time.process_time()
        decision = self.queue.decide(now)
        seconds = time.process_time() - clock
        self.result.deciding += seconds
        self.result.decisions.append(seconds)
        self.result.chunks += len(decision.sent)
        self._unwanted.update(decision.taken)
        for chunk in decision.shortened:
            self._at(now + DELAY, partial(self._shorten, chunk, len(chunk.items)))
        for chunk in decision.sent:
            self._at(now + DELAY, partial(self._arrive, chunk))
        if decision.more:
            self._decide(now)
            return
        self.watch(self.queue, now)

    def _arrive(self, chunk: Chunk, now: float) -> None:
        self._queued[chunk.worker.name].append(chunk)
        self._begin(chunk.worker.name, now)

    def _begin(self, name: str, now: float) -> None:
        worker, queued = self.workers[name], self._queued[name]
        while self._free[name] and queued and now < min(worker.dies, worker.hangs):
            chunk = queued.popleft()
            if chunk in self._unwanted:
                continue
            self._free[name] -= 1
            ends = [now]
            for item in chunk.items:
                cost = self.costs[item.number] * (1 + self.noise * self._random.uniform(-1, 1))
                ends.append(worker.end(ends[-1], cost))
            self._ends[chunk] = ends
            self._plan(chunk)

    def _plan(self, chunk: Chunk) -> None:
        worker, ends = self.workers[chunk.worker.name], self._ends[chunk]
        end = ends[-1] + OVERHEAD * self._fastest / worker.speed
        self._at(end, partial(self._finish, chunk, len(ends)))

    def _shorten(self, chunk: Chunk, number: int, now: float) -> None:
        ends = self._ends.get(chunk, [])
        # What it has begun by then is finished.
        last = max(number, sum(end <= now for end in ends))
        if last < len(ends) - 1:
            del ends[last + 1 :]
            self._plan(chunk)

    def _finish(self, chunk: Chunk, number: int, now: float) -> None:
        ends, worker = self._ends.get(chunk, []), self.workers[chunk.worker.name]
        # It was made shorter since this was planned, or nobody is there any more who would say so.
        if len(ends) != number or now >= min(worker.dies, worker.hangs):
            return
        del self._ends[chunk]
        self._free[chunk.worker.name] += 1
        self._begin(chunk.worker.name, now)
        seconds = [end - begin for begin, end in pairwise(ends)]
        self._at(now + DELAY, partial(self._answer, chunk, seconds))

    def _answer(self, chunk: Chunk, seconds: list[float], now: float) -> None:
        if chunk in self._unwanted:
            return
        clock = time.process_time()
        finished = self.queue.finished(chunk, seconds, now)
        self.result.deciding += time.process_time() - clock
        self._unwanted.update(finished.obsolete)
        self.result.answers += [chunk.items[place].number for place in finished.new]
