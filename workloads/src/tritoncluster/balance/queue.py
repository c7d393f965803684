"""What each worker does next: the decisions, without a cluster.

Items wait in the queue; pieces of them are with workers. Nothing here knows Dask, a clock or a network: whoever drives
a `Queue` tells it what happened and when, asks `decide`, and sends what that gives. So one code decides on a cluster, in
tests and in simulations.

- A piece is a share of what is left, in time, and shrinks towards the end: guided self-scheduling (C. Polychronopoulos
  and D. Kuck, IEEE Trans. Computers C-36, 1987), with a share well below an equal one, against unknown lengths
  (factoring: S. Hummel, E. Schonberg, L. Flynn, CACM 35(8), 1992), for workers of different speed (weighted factoring:
  S. Hummel, J. Schmidt, R. Uma, J. Wein, SPAA 1996). The last pieces are cut so that all workers end together.
- When nothing waits, an idle worker takes over what another one has not begun, or repeats what is expected to come last;
  the first answer counts (backup tasks: J. Dean and S. Ghemawat, OSDI 2004).
- A lost worker's items wait again. A worker is no longer counted upon when a piece is overdue: when it takes longer than
  `patience` seconds, and ten times as long as expected. What it has waits again, and it gets no more until it answers.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tritoncluster.balance.rates import Rates

#: A piece is this part of what a thread is expected still to do: "tens of pieces a worker" follows from it.
SHARE = 1 / 8
#: Seconds of work below which a piece is not cut but to end together: sending one costs some milliseconds.
SHORTEST = 0.1
#: Times as long as expected before a piece is overdue, and the seconds before which none is.
OVERDUE, PATIENCE = 10.0, 30.0
#: Seconds in which a piece reaches a worker and its answer comes back.
ROUND_TRIP = 0.01
#: Seconds for each worker between two looks at all of them for what to repeat: with a thousand it takes milliseconds.
LOOK_INTERVAL = 1e-4


@dataclass(eq=False)
class Piece:
    """Items that a worker computes in one go, with their whole cost.

    Parameters
    ----------
    repeat
        Whether another worker has these items too.
    start
        When the worker must have begun with it; None while it is behind others.
    overdue
        Whether it is no longer counted upon.
    """

    worker: "Worker"
    items: tuple[int, ...]
    cost: float
    repeat: bool = False
    start: float | None = None
    overdue: bool = False


@dataclass(eq=False)
class Worker:
    """A worker: its pieces in the order in which it takes them, and when it will be done with them."""

    address: str
    name: str
    threads: int
    pieces: list[Piece] = field(default_factory=list)
    ready: float = 0.0
    trusted: bool = True
    leaving: bool = False

    @property
    def look_ahead(self) -> int:
        """Pieces to have beyond those that run, so that none waits for a round trip."""
        return -(-self.threads // 2)

    def idle_threads(self) -> int:
        """Count the threads that have nothing to do."""
        return max(0, self.threads - len(self.pieces)) if self.trusted else 0


@dataclass(frozen=True)
class Finished:
    """What a finished piece brings: the places in it of items that had no answer yet, and pieces nobody needs now."""

    new: list[int]
    obsolete: list[Piece]


class Queue:
    """Items, workers, and who computes what.

    Parameters
    ----------
    earlier
        Names of workers -> their speeds in an earlier run, as `Rates.to_remember` gave them.
    patience
        Seconds before which no piece is overdue.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None, *, patience: float = PATIENCE) -> None:
        self.rates = Rates()
        self.rates.know(earlier or {})
        self.patience = patience
        self.workers: dict[str, Worker] = {}
        #: Times that a worker was lost that was computing an item.
        self.losses: dict[int, int] = {}
        self._costs: list[float] = []
        self._done: list[bool] = []
        self._copies: list[list[Piece]] = []
        # The longest first; among equals, in the order in which they came.
        self._waiting: list[tuple[float, int]] = []
        self._waits: list[bool] = []
        self._waiting_cost = 0.0
        self._left = 0
        # Of each worker, cost a second; of busy ones, also that times when they will be ready. Sums of them say when
        # all will be done, without a look at each.
        self._power: dict[str, float] = {}
        self._busy: dict[str, tuple[float, float]] = {}
        self._mean_speed: float | None = None
        # Workers that could take a piece.
        self._open: dict[str, Worker] = {}
        self._stale = False
        # When all were looked at last, for overdue pieces and for what to repeat.
        self._checked = self._looked = -math.inf

    # What happens.

    def add(self, cost: float = 1.0) -> int:
        """Take in an item; its number, from 0, is returned. `cost` is its length relative to the others'."""
        item = len(self._costs)
        self._costs.append(cost if cost > 0 and math.isfinite(cost) else 1.0)
        self._done.append(False)
        self._waits.append(False)
        self._copies.append([])
        self._left += 1
        self._wait(item)
        return item

    def add_worker(self, address: str, name: str, threads: int) -> None:
        """Take in a worker that has nothing to do."""
        self.workers[address] = Worker(address, name, max(1, threads))
        self._stale = True

    def remove_worker(self, address: str) -> list[Piece]:
        """Forget a worker; its items wait again. Give the pieces that it had."""
        worker = self.workers.pop(address)
        pieces, worker.pieces = worker.pieces, []
        self._power.pop(address, None)
        self._busy.pop(address, None)
        self._open.pop(address, None)
        self._stale = True
        for number, piece in enumerate(pieces):
            for item in self._release(piece):
                if number < worker.threads:
                    self.losses[item] = self.losses.get(item, 0) + 1
        return pieces

    def set_leaving(self, address: str, *, leaving: bool) -> None:
        """Take note that a worker takes no more work, or does again; what it still finishes is welcome."""
        worker = self.workers[address]
        if worker.leaving != leaving:
            worker.leaving, worker.trusted = leaving, not leaving
            self._stale = True
            if leaving:
                self._no_longer_count_upon(worker)

    def finished(self, piece: Piece, seconds: list[float], now: float) -> Finished:
        """Take note of a piece's answer; `seconds` is how long each of its items took."""
        worker = piece.worker
        self._stale |= not (worker.trusted and self.rates.measured(worker.name))
        worker.trusted = not worker.leaving
        self.rates.add(worker.name, [self._costs[item] for item in piece.items], seconds)
        new = [place for place, item in enumerate(piece.items) if not self._done[item]]
        obsolete = []
        for place in new:
            item = piece.items[place]
            self._done[item] = True
            self._left -= 1
            self._wait_no_longer(item)
            obsolete += [other for other in self._copies[item] if other is not piece]
        self._leave(piece, now)
        # A piece whose worker is not counted upon stays: its answer would show that the worker is well.
        unneeded = [
            other
            for other in dict.fromkeys(obsolete)
            if other.worker.trusted and all(self._done[item] for item in other.items)
        ]
        for other in unneeded:
            self._leave(other, now)
        return Finished(new, unneeded)

    def withdrawn(self, piece: Piece, now: float, *, lost: bool = False) -> None:
        """Take note that a piece will never be answered, perhaps because workers were lost with it; its items wait."""
        self._leave(piece, now)
        for item in piece.items if lost else ():
            self.losses[item] = self.losses.get(item, 0) + 1

    # What follows.

    @property
    def left(self) -> int:
        """The number of items without an answer."""
        return self._left

    def cost(self, item: int) -> float:
        """Give an item's cost."""
        return self._costs[item]

    def needed(self, piece: Piece) -> bool:
        """Tell whether any item of a piece still has no answer."""
        return not all(self._done[item] for item in piece.items)

    def decide(self, now: float) -> tuple[list[Piece], list[Piece]]:
        """Say which pieces to send, and which to take back from workers that have not begun with them.

        While an item waits, no thread of a worker that is counted upon is idle.
        """
        sent: list[Piece] = []
        taken: list[Piece] = []
        if self._stale:
            self._look_at_all(now)
        self._give_up(now)
        self._hand_out(now, sent)
        if self._waiting or now - self._looked < LOOK_INTERVAL * len(self.workers):
            return sent, taken
        self._looked = now
        while not self._waiting and (queued := self._not_begun(now, sent)):
            self._leave(queued, now)
            taken.append(queued)
            self._hand_out(now, sent)
        if not self._waiting:
            self._repeat(now, sent)
        return sent, taken

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
        # What took longer than expected will, for all one knows, take half as long again.
        return max(piece.start + piece.cost / speed, now + (now - piece.start) / 2)

    # How pieces are cut.

    def _hand_out(self, now: float, sent: list[Piece]) -> None:
        """Cut pieces for idle threads, the fastest first, and then for look-ahead."""
        for ahead in (False, True):
            if not self._waiting:
                return
            extra = 1 if ahead else 0
            room = [each for each in self._open.values() if len(each.pieces) < each.threads + extra * each.look_ahead]
            for worker in sorted(room, key=lambda each: -(self.speed(each) or 0)):
                while self._waiting and len(worker.pieces) < worker.threads + extra * worker.look_ahead:
                    items = self._cut(worker, now, ahead=ahead)
                    if not items:
                        break
                    sent.append(self._give(worker, items, now))

    def _cut(self, worker: Worker, now: float, *, ahead: bool) -> list[int]:
        """Take items off the queue for a worker; none when they would come too late as look-ahead."""
        speed = self.speed(worker)
        first = self._waiting[0][1]
        if speed is None or first in self.losses:
            # Nothing is known yet; or it may be what took a worker down, and nothing else should go with it.
            return [self._take()]
        power = sum(self._power.values())
        backlog = sum(ready for ready, _ in self._busy.values()) - now * sum(power for _, power in self._busy.values())
        # Seconds in which all could be done, and how many of these are left when this piece begins.
        room = (self._waiting_cost + max(0.0, backlog)) / power - (max(0.0, worker.ready - now) if ahead else 0.0)
        if ahead and self._costs[first] / 2 / speed > room:
            return []
        # Small ones for a worker that nobody knows, and where many may be as long as one.
        small = self.rates.uneven or self.rates.speed(worker.name) is None
        share = SHORTEST if small else max(SHORTEST, SHARE * self._waiting_cost / power)
        cost = speed * min(share, room)
        items = [self._take()]
        cost -= self._costs[items[0]]
        while self._waiting and (item := self._waiting[0][1]) not in self.losses and self._costs[item] / 2 <= cost:
            cost -= self._costs[item]
            items.append(self._take())
        return items

    def _not_begun(self, now: float, sent: list[Piece]) -> Piece | None:
        """Find what is queued behind a worker's running pieces that an idle thread would finish before."""
        idle = [worker for worker in self._open.values() if worker.idle_threads()]
        if not idle:
            return None
        queued = [
            piece
            for worker in self.workers.values()
            for piece in worker.pieces[worker.threads :]
            if not piece.repeat and piece not in sent
        ]
        if not queued:
            return None
        last = max(queued, key=lambda piece: piece.worker.ready)
        fastest = max(idle, key=lambda worker: self.speed(worker) or 0)
        speed = self.speed(fastest)
        if speed is None or now + ROUND_TRIP + self._costs[last.items[0]] / speed < last.worker.ready:
            return last
        return None

    def _repeat(self, now: float, sent: list[Piece]) -> None:
        """Let idle threads compute what is expected last, where they are expected to be done with it before."""
        idle = [worker for worker in self._open.values() for _ in range(worker.idle_threads())]
        if not idle or not self._left:
            return
        idle.sort(key=lambda worker: self.speed(worker) or 0)
        running = [piece for worker in self.workers.values() for piece in worker.pieces[: worker.threads]]
        for end, piece in sorted(((self.expected(piece, now), piece) for piece in running), key=lambda each: -each[0]):
            items = [item for item in piece.items if not self._done[item] and len(self._copies[item]) == 1]
            while idle and items and idle[-1] is not piece.worker:
                part = items[-(-(-len(items) // len(idle))) :]
                if not now + ROUND_TRIP + self._seconds_elsewhere(piece, part, idle[-1], now) < end:
                    break
                del items[-len(part) :]
                sent.append(self._give(idle.pop(), part, now, repeat=True))
            if not idle:
                return

    def _seconds_elsewhere(self, piece: Piece, part: list[int], worker: Worker, now: float) -> float:
        """Give how long a part of a running piece would take another worker."""
        here, there = self.speed(piece.worker), self.speed(worker)
        if here is None or there is None or piece.start is None:
            return math.inf
        cost = math.fsum(self._costs[item] for item in part)
        if self.rates.uneven:
            # It is then the items that take longer than expected, and would on any worker.
            cost *= max(1.0, (self.expected(piece, now) - piece.start) * here / piece.cost)
        return cost / there

    def _give_up(self, now: float) -> None:
        """Stop counting upon workers with an overdue piece."""
        if now - self._checked < self.patience / 20:
            return
        self._checked = now
        for worker in self.workers.values():
            late = [piece for piece in worker.pieces[: worker.threads] if self._is_late(piece, now)]
            if late and worker.trusted:
                for piece in late:
                    piece.overdue = True
                self._no_longer_count_upon(worker)
        if self._stale:
            self._look_at_all(now)

    def _no_longer_count_upon(self, worker: Worker) -> None:
        worker.trusted = False
        self._stale = True
        for item in (item for piece in worker.pieces for item in piece.items):
            self._wait_unless_counted_upon(item)

    def _is_late(self, piece: Piece, now: float) -> bool:
        speed = self.speed(piece.worker)
        if piece.overdue or piece.start is None or speed is None:
            return False
        return now - piece.start > max(self.patience, OVERDUE * piece.cost / speed)

    # Book-keeping.

    def _take(self) -> int:
        item = self._waiting[0][1]
        self._wait_no_longer(item)
        return item

    def _wait(self, item: int) -> None:
        if not self._waits[item]:
            self._waits[item] = True
            self._waiting_cost += self._costs[item]
            heapq.heappush(self._waiting, (-self._costs[item], item))

    def _wait_no_longer(self, item: int) -> None:
        if self._waits[item]:
            self._waits[item] = False
            self._waiting_cost -= self._costs[item]
        # Only the first of the heap must wait indeed.
        while self._waiting and not self._waits[self._waiting[0][1]]:
            heapq.heappop(self._waiting)

    def _wait_unless_counted_upon(self, item: int) -> None:
        if not self._done[item] and not any(piece.worker.trusted and not piece.overdue for piece in self._copies[item]):
            self._wait(item)

    def _give(self, worker: Worker, items: list[int], now: float, *, repeat: bool = False) -> Piece:
        piece = Piece(worker, tuple(items), math.fsum(self._costs[item] for item in items), repeat)
        for item in items:
            self._copies[item].append(piece)
        worker.pieces.append(piece)
        self._look_at(worker, now)
        return piece

    def _leave(self, piece: Piece, now: float) -> None:
        if piece in piece.worker.pieces:
            piece.worker.pieces.remove(piece)
            self._look_at(piece.worker, now)
        self._release(piece)

    def _release(self, piece: Piece) -> list[int]:
        """Take a piece off its items; give those that nobody has answered. They wait, unless another piece has them."""
        unanswered = []
        for item in piece.items:
            copies = self._copies[item]
            if piece in copies:
                copies.remove(piece)
                if not self._done[item]:
                    unanswered.append(item)
                    self._wait_unless_counted_upon(item)
        return unanswered

    def _look_at_all(self, now: float) -> None:
        self._stale = False
        known = [(worker.threads, self.rates.speed(worker.name)) for worker in self.workers.values()]
        threads = sum(number for number, speed in known if speed)
        self._mean_speed = sum(number * speed for number, speed in known if speed) / threads if threads else None
        for worker in self.workers.values():
            self._look_at(worker, now)

    def _look_at(self, worker: Worker, now: float) -> None:
        """Note which of a worker's pieces run, its speed, and when it will be ready."""
        for piece in worker.pieces[: worker.threads]:
            piece.start = now if piece.start is None else piece.start
        speed = self.speed(worker)
        self._busy.pop(worker.address, None)
        self._power.pop(worker.address, None)
        self._open.pop(worker.address, None)
        worker.ready = now
        if worker.trusted and len(worker.pieces) < worker.threads + worker.look_ahead:
            self._open[worker.address] = worker
        if speed is None or not worker.trusted:
            return
        power = self._power[worker.address] = worker.threads * speed
        if worker.pieces:
            running = sum(self.expected(piece, now) - now for piece in worker.pieces[: worker.threads])
            behind = sum(piece.cost for piece in worker.pieces[worker.threads :]) / speed
            worker.ready = now + (running + behind) / worker.threads
            self._busy[worker.address] = worker.ready * power, power
