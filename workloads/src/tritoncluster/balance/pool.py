"""All workers, how fast they are together, and when they will be done with the chunks that they have."""

import math

from tritoncluster.balance.agenda import Agenda
from tritoncluster.balance.model import Chunk, Worker
from tritoncluster.balance.rates import Rates

#: Seconds in which a chunk reaches the fastest worker and its answer comes back. A slower one takes as many times
#: more, but never more than the longest: its speed may have been misjudged.
ROUND_TRIP, LONGEST_TRIP = 0.02, 0.25
#: Seconds before the end of all from which on it matters how long a round trip takes: the longest, and as much work.
NEAR = 2 * LONGEST_TRIP
#: Seconds for each worker between two looks at all of them, for what to repeat, and for when all will be done, and at
#: those who are free soon: with a thousand it takes a millisecond and more.
LOOK_INTERVAL = 1e-4
#: A worker whose speed is measured for the first time tells of those that are not. The more are measured, the less it
#: does: all are looked at again when the measured ones are more by this part of them.
MORE_MEASURED = 1 / 8
#: Looks at single workers after which the sums over all are added up anew: what is added and taken off again leaves
#: rounding errors behind.
ADD_UP = 1000


class Pool:
    """All workers, and how fast they are together.

    Attributes
    ----------
    workers : dict of str to Worker
        By address.
    rates : Rates
        How fast each is.
    idle : dict of str to Worker
        Those with a thread that has nothing to do.
    ahead : Agenda
        Those without such a thread that have room, by when they will have one.
    threads : int
        Of all workers.
    power : float
        Cost a second of all workers that are counted upon.
    """

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.rates = Rates()
        self.idle: dict[str, Worker] = {}
        self.ahead = Agenda()
        self.threads = 0
        self.power = 0.0
        self._able = 0
        self._mean_speed: float | None = None
        self._fastest: float | None = None
        # Workers to look at; whether to look at all, and when that was done last.
        self._changed: dict[str, Worker] = {}
        self._all_changed = False
        self._looked_at_all = -math.inf
        # When all workers were looked at for the end of all, and what it was.
        self._looked = self._near_end = -math.inf
        # Over busy workers, the sums of `Worker.busy`: they say when all will be done, without a look at each.
        self._busy_power = self._busy_until = 0.0
        self._looks = self._measured = self._enough_measured = 0

    def add(self, address: str, name: str, threads: int) -> None:
        """Take in a worker that has nothing to do."""
        worker = self.workers[address] = Worker(address, name, max(1, threads))
        self.threads += worker.threads
        self.changed(worker)

    def remove(self, address: str) -> Worker:
        """Forget a worker."""
        worker = self.workers.pop(address)
        self.threads -= worker.threads
        self._strike_out(worker)
        self._fastest = None
        self.changed(worker)
        return worker

    def changed(self, worker: Worker) -> None:
        """Note that a worker came or went, or that its state or its speed is another: `refresh` looks at it."""
        self._changed[worker.address] = worker
        self._all_changed = True

    def measured(self, worker: Worker) -> None:
        """Note that a worker's speed was measured for the first time: others are judged by it."""
        self._changed[worker.address] = worker
        self._measured += 1
        if self._measured > self._enough_measured:
            self._enough_measured = int(self._measured * (1 + MORE_MEASURED))
            self._all_changed = True
        # At once after the first, the second, the fourth, ...
        if not self._measured & (self._measured - 1):
            self._looked_at_all = -math.inf

    def refresh(self, now: float) -> None:
        """Look at workers that have changed, and now and then, because of those, at all."""
        if self._all_changed and now - self._looked_at_all >= LOOK_INTERVAL * len(self.workers):
            self.look_at_all(now)
        else:
            for worker in self._changed.values():
                self.look_at(worker, now)
        self._changed.clear()

    def speed(self, worker: Worker) -> float | None:
        """Give a thread's speed in cost a second; that of the mean worker, or None, where it is not known."""
        return self.rates.speed(worker.name) or self._mean_speed

    def planned(self, chunk: Chunk) -> float:
        """Give the time when a chunk should be finished that has begun; infinite where no speed is known."""
        speed = self.speed(chunk.worker)
        return math.inf if speed is None or chunk.start is None else chunk.start + chunk.cost / speed

    def expected(self, chunk: Chunk, now: float) -> float:
        """Give the time when a chunk is expected to be finished.

        One that is late by some seconds is expected to take as many more: of lengths whose distribution has a heavy
        tail, what has been survived is the best estimate of what remains.
        """
        if chunk.start is None:
            return max(now, chunk.worker.ready) if self.speed(chunk.worker) else math.inf
        planned = self.planned(chunk)
        return planned if planned >= now else 2 * now - planned

    def fastest(self) -> float | None:
        """Give the speed of the fastest worker's thread; None when no speed is known."""
        if self._fastest is None:
            self._fastest = max((worker.speed for worker in self.workers.values()), default=0.0) or None
        return self._fastest

    def trip(self, worker: Worker) -> float:
        """Give the seconds in which a chunk reaches a worker and its answer comes back."""
        # Both as of the last look: beside a speed that is nobody's any more, nobody would be the fastest.
        speed, fastest = worker.speed, self.fastest()
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
        if not self.power:
            return math.inf
        end = now + (cost + self.backlog(now)) / self.power
        if end > now + NEAR:
            return end
        if now >= min(self._near_end, self._looked + LOOK_INTERVAL * len(self.workers)):
            self._looked, self._near_end = now, now + self._seconds_without_late_answers(cost, now)
        return self._near_end

    def _seconds_without_late_answers(self, cost: float, now: float) -> float:
        """Give in how many seconds all could be done if only those get more who help; infinite if nobody does."""
        for worker in self.workers.values():
            # What is late is later the longer nothing is heard.
            if worker.chunks and worker.ready <= now:
                self.look_at(worker, now)
        able = [worker for worker in self.workers.values() if worker.speed]
        begins = [(max(0.0, worker.ready - now) + self.delay(worker), worker.address, worker) for worker in able]
        together, end = 0.0, math.inf
        for begin, _, worker in sorted(begins):
            missed = begin * worker.power
            sooner = (cost + missed) / (together + worker.power)
            if sooner < end and self.helps(worker, sooner - max(0.0, worker.ready - now)):
                cost, together, end = cost + missed, together + worker.power, sooner
        return end

    def backlog(self, now: float) -> float:
        """Give the cost that workers have still to do of what they have."""
        # Late ones count less than they will take: that is for `expected`.
        return max(0.0, self._busy_until - now * self._busy_power)

    def look_at_all(self, now: float) -> None:
        """Note the state of all workers."""
        self._all_changed = False
        self._looked_at_all = now
        self._looked = -math.inf
        known = [(worker.threads, self.rates.speed(worker.name)) for worker in self.workers.values()]
        threads = sum(number for number, speed in known if speed)
        # Where all who were measured are gone, theirs is the best that is known.
        self._mean_speed = self.rates.mean()
        if threads:
            self._mean_speed = math.fsum(number * speed for number, speed in known if speed) / threads
        for worker in self.workers.values():
            self.look_at(worker, now)
        self._add_up()

    def look_at(self, worker: Worker, now: float) -> None:
        """Note which of a worker's chunks run, whether it has room, and when it will be ready."""
        running, before = worker.running, worker.speed
        for chunk in running:
            chunk.begin(now)
        self._strike_out(worker)
        worker.ready = worker.free = now
        if worker.trusted:
            self._reckon_with(worker, running, now)
        if self._fastest is not None and worker.speed >= self._fastest:
            self._fastest = worker.speed
        elif before == self._fastest:
            self._fastest = None
        self._looks += 1
        if self._looks > ADD_UP + len(self.workers):
            self._add_up()

    def _reckon_with(self, worker: Worker, running: list[Chunk], now: float) -> None:
        if worker.idle:
            self.idle[worker.address] = worker
        speed = self.speed(worker)
        if speed is not None:
            self._reckon_with_speed(worker, speed, running, now)
        if not worker.idle and worker.room:
            self.ahead.put(worker, worker.free)

    def _reckon_with_speed(self, worker: Worker, speed: float, running: list[Chunk], now: float) -> None:
        worker.speed = speed
        self._able += 1
        self.power += worker.power
        if running:
            ends = sorted([self.expected(chunk, now) for chunk in running])
            behind = worker.queued
            seconds = math.fsum(ends) - now * len(ends) + sum([chunk.cost for chunk in behind]) / speed
            worker.ready = now + seconds / worker.threads
            if len(ends) == worker.threads:
                worker.free = ends[min(len(behind), len(ends) - 1)]
            worker.busy = worker.power, worker.ready * worker.power
            self._busy_power += worker.busy[0]
            self._busy_until += worker.busy[1]

    def _strike_out(self, worker: Worker) -> None:
        self.idle.pop(worker.address, None)
        self.ahead.drop(worker)
        if worker.speed:
            self._able -= 1
            # Nothing but rounding errors is left without workers.
            self.power = self.power - worker.power if self._able else 0.0
            self._busy_power -= worker.busy[0]
            self._busy_until -= worker.busy[1]
            worker.speed, worker.busy = 0.0, (0.0, 0.0)

    def _add_up(self) -> None:
        self._looks = 0
        self.power = math.fsum(worker.power for worker in self.workers.values())
        self._busy_power = math.fsum(worker.busy[0] for worker in self.workers.values())
        self._busy_until = math.fsum(worker.busy[1] for worker in self.workers.values())
