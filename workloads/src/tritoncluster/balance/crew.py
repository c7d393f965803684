"""Workers, the pieces that they have, and when they will be done with them."""

import math
from dataclasses import dataclass, field

from tritoncluster.balance.rates import Rates

#: Seconds in which a piece reaches the fastest worker and its answer comes back. A slower one takes as many times
#: more, but never more than the longest: its speed may have been misjudged.
ROUND_TRIP, LONGEST_TRIP = 0.02, 0.25
#: Seconds before the end of all from which on it matters how long a round trip takes: the longest, and as much work.
NEAR = 2 * LONGEST_TRIP
#: Seconds for each worker between two looks at all of them, for what to repeat, for who is free soon, and for when all
#: will be done: with a thousand it takes a millisecond and more.
LOOK_INTERVAL = 1e-4


@dataclass(eq=False)
class Worker:
    """A worker.

    Parameters
    ----------
    address, name, threads
        Its address, which is its own; its name, which one that replaces it has too; how many pieces it runs at a time.
    pieces
        What it has, in the order in which it takes them.
    ready
        When it will be done with them.
    free
        When a thread of it will have nothing to do, unless it gets more.
    trusted
        Whether it is counted upon; one that leaves, or has an overdue piece, is not.
    leaving
        Whether it takes no more work.
    """

    address: str
    name: str
    threads: int
    pieces: list["Piece"] = field(default_factory=list)
    ready: float = 0.0
    free: float = 0.0
    trusted: bool = True
    leaving: bool = False

    @property
    def running(self) -> list["Piece"]:
        """The pieces that its threads compute."""
        return self.pieces[: self.threads]

    @property
    def idle(self) -> int:
        """The number of threads that have nothing to do."""
        return max(0, self.threads - len(self.pieces)) if self.trusted else 0

    @property
    def room(self) -> int:
        """Pieces that it could take, with those to have beyond what runs, so that no thread waits for a round trip."""
        return max(0, self.threads + -(-self.threads // 2) - len(self.pieces)) if self.trusted else 0


@dataclass(eq=False)
class Piece:
    """Items that a worker computes in one go.

    Parameters
    ----------
    worker, items, cost
        Whose; which items, in the order in which they are computed; their cost in all.
    start
        When the worker must have begun with it; None while it is behind others.
    overdue
        Whether it is no longer counted upon.
    """

    worker: Worker
    items: tuple[int, ...]
    cost: float
    start: float | None = None
    overdue: bool = False

    @property
    def counted_upon(self) -> bool:
        """Whether its answer is expected."""
        return self.worker.trusted and not self.overdue


class Crew:
    """All workers, and how fast they are together.

    Attributes
    ----------
    workers : dict of str to Worker
        By address.
    rates : Rates
        How fast each is.
    idle, open : dict of str to Worker
        Those with a thread that has nothing to do, and those that have room.
    stale : bool
        Whether `look_at_all` has to be called.
    """

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.rates = Rates()
        self.idle: dict[str, Worker] = {}
        self.open: dict[str, Worker] = {}
        self.stale = False
        self._mean_speed: float | None = None
        self._fastest: float | None = None
        # When all workers were looked at for the end of all, and what it was.
        self._looked = self._near_end = -math.inf
        # Of each worker, cost a second, of one thread and of all; of busy ones, also that times when it will be ready.
        # Sums of them say when all will be done, without a look at each.
        self._speeds: dict[str, float] = {}
        self._power: dict[str, float] = {}
        self._busy_power: dict[str, float] = {}
        self._busy_until: dict[str, float] = {}

    def add(self, address: str, name: str, threads: int) -> None:
        """Take in a worker that has nothing to do."""
        self.workers[address] = Worker(address, name, max(1, threads))
        self.stale = True

    def remove(self, address: str) -> Worker:
        """Forget a worker."""
        worker = self.workers.pop(address)
        worker.trusted = False
        self._strike_out(address)
        self.stale = True
        return worker

    def speed(self, worker: Worker) -> float | None:
        """Give a thread's speed in cost a second; that of the mean worker, or None, where it is not known."""
        return self.rates.speed(worker.name) or self._mean_speed

    def expected(self, piece: Piece, now: float) -> float:
        """Give the time when a piece is expected to be finished."""
        speed = self.speed(piece.worker)
        if speed is None:
            return math.inf
        if piece.start is None:
            return max(now, piece.worker.ready)
        planned = piece.start + piece.cost / speed
        # What is late will, for all one knows, be as late again.
        return max(planned, now + (now - planned))

    def power(self) -> float:
        """Give the cost a second of all workers together."""
        return sum(self._power.values())

    def fastest(self) -> float | None:
        """Give the speed of the fastest worker's thread; None when no speed is known."""
        if self._fastest is None:
            self._fastest = max(self._speeds.values(), default=None)
        return self._fastest

    def trip(self, worker: Worker) -> float:
        """Give the seconds in which a piece reaches a worker and its answer comes back."""
        speed, fastest = self.speed(worker), self.fastest()
        return min(LONGEST_TRIP, ROUND_TRIP * max(1.0, fastest / speed)) if speed and fastest else ROUND_TRIP

    def delay(self, worker: Worker) -> float:
        """Give the seconds that a round trip to a worker takes longer than one to the fastest."""
        return self.trip(worker) - ROUND_TRIP

    def helps(self, worker: Worker, seconds: float) -> bool:
        """Tell whether a worker, that has nothing to do, could work for longer than its answer is late."""
        return seconds >= 2 * self.delay(worker)

    def end(self, cost: float, now: float) -> float:
        """Give when all could be done: what workers have, and more of this cost.

        Near the end, what workers have counts that could still help with more.
        """
        power = self.power()
        if not power:
            return math.inf
        end = now + (cost + self.backlog(now)) / power
        if end > now + NEAR:
            return end
        if now >= min(self._near_end, self._looked + LOOK_INTERVAL * len(self.workers)):
            self._looked, self._near_end = now, now + self._seconds_without_late_answers(cost, now)
        return self._near_end

    def _seconds_without_late_answers(self, cost: float, now: float) -> float:
        """Give in how many seconds all could be done if only those get more who help; infinite if nobody does."""
        for worker in self.workers.values():
            # What is late is later the longer nothing is heard.
            if worker.pieces and worker.ready <= now:
                self.look_at(worker, now)
        ready = {address: max(0.0, self.workers[address].ready - now) for address in self._power}
        begins = {address: seconds + self.delay(self.workers[address]) for address, seconds in ready.items()}
        together, end = 0.0, math.inf
        for address in sorted(begins, key=begins.__getitem__):
            power = self._power[address]
            missed = begins[address] * power
            sooner = (cost + missed) / (together + power)
            if sooner < end and self.helps(self.workers[address], sooner - ready[address]):
                cost, together, end = cost + missed, together + power, sooner
        return end

    def backlog(self, now: float) -> float:
        """Give the cost that workers have still to do of what they have."""
        # Late ones count less than they will take: that is for `expected`.
        return max(0.0, sum(self._busy_until.values()) - now * sum(self._busy_power.values()))

    def look_at_all(self, now: float) -> None:
        """Note the state of all workers, after one came or went, or its speed was measured for the first time."""
        self.stale = False
        self._looked = -math.inf
        known = [(worker.threads, self.rates.speed(worker.name)) for worker in self.workers.values()]
        threads = sum(number for number, speed in known if speed)
        # Where all who were measured are gone, theirs is the best that is known.
        self._mean_speed = self.rates.mean()
        if threads:
            self._mean_speed = math.fsum(number * speed for number, speed in known if speed) / threads
        for worker in self.workers.values():
            self.look_at(worker, now)

    def look_at(self, worker: Worker, now: float) -> None:
        """Note which of a worker's pieces run, whether it has room, and when it will be ready."""
        for piece in worker.running:
            piece.start = now if piece.start is None else piece.start
        self._strike_out(worker.address)
        worker.ready = worker.free = now
        if worker.address not in self.workers or not worker.trusted:
            return
        if worker.idle:
            self.idle[worker.address] = worker
        if worker.room:
            self.open[worker.address] = worker
        speed = self.speed(worker)
        if speed is None:
            return
        self._speeds[worker.address] = speed
        if self._fastest is not None:
            self._fastest = max(self._fastest, speed)
        power = self._power[worker.address] = worker.threads * speed
        if worker.pieces:
            ends = sorted(self.expected(piece, now) for piece in worker.running)
            behind = worker.pieces[worker.threads :]
            seconds = math.fsum(end - now for end in ends) + math.fsum(piece.cost for piece in behind) / speed
            worker.ready = now + seconds / worker.threads
            if len(ends) == worker.threads:
                worker.free = ends[min(len(behind), len(ends) - 1)]
            self._busy_power[worker.address], self._busy_until[worker.address] = power, worker.ready * power

    def _strike_out(self, address: str) -> None:
        if self._speeds.get(address) == self._fastest:
            self._fastest = None
        for table in (self.idle, self.open, self._speeds, self._power, self._busy_power, self._busy_until):
            table.pop(address, None)
