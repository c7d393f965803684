"""What each worker does next: the decisions, without a cluster.

Items wait in the queue; pieces of them are with workers. Nothing here knows Dask, a clock or a network: whoever drives
a `Queue` tells it what happened and when, asks `decide`, and sends what that gives. So one code decides on a cluster,
in tests and in simulations.

- A piece is a share of what is left, in time, and shrinks towards the end: guided self-scheduling (C. Polychronopoulos
  and D. Kuck, IEEE Trans. Computers C-36, 1987), with a share well below an equal one, against unknown lengths
  (factoring: S. Hummel, E. Schonberg, L. Flynn, CACM 35(8), 1992), for workers of different speed (weighted factoring:
  S. Hummel, J. Schmidt, R. Uma, J. Wein, SPAA 1996). The last pieces are cut so that all answers come together.
- When nothing waits, an idle worker takes over what another one has not begun, be it a part of a piece, or repeats what
  is expected to come last; the first answer counts (backup tasks: J. Dean and S. Ghemawat, OSDI 2004).
- A lost worker's items wait again. A piece is overdue when it takes longer than `patience` seconds, and ten times as
  long as expected: then its worker is no longer counted upon. What it has waits again, and it gets no more until it
  answers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tritoncluster.balance.backup import not_begun, take_overs
from tritoncluster.balance.crew import LOOK_INTERVAL, Crew, Piece, Worker
from tritoncluster.balance.cut import SHORTEST, cut
from tritoncluster.balance.items import Items

#: Times as long as expected before a piece is overdue, and the seconds before which none is.
OVERDUE, PATIENCE = 10.0, 30.0
#: Seconds before a thread has nothing to do in which it gets another piece: later than it must, so that as much as
#: possible is known by then; sooner than a piece needs to reach it, also when it runs faster than expected.
AHEAD = 0.25


@dataclass(frozen=True)
class Finished:
    """What a finished piece brings: the places in it of items that had no answer yet, and pieces nobody needs now."""

    new: list[int]
    obsolete: list[Piece]


@dataclass(frozen=True)
class Decision:
    """What to do next.

    Parameters
    ----------
    sent
        Pieces to send.
    taken
        Pieces to take back from workers that have not begun with them.
    shortened
        Pieces that are now shorter: their workers should stop before the first item that is no longer in them, or as
        soon as they hear of it.
    """

    sent: list[Piece]
    taken: list[Piece]
    shortened: list[Piece]


class Queue:
    """Items, workers, and who computes what.

    Parameters
    ----------
    earlier
        Names of workers -> their speeds in an earlier run, as `Rates.to_remember` gave them.
    patience
        Seconds before which no piece is overdue.

    Attributes
    ----------
    losses : dict of int to int
        Item -> how often a worker was lost that was computing it.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.losses: dict[int, int] = {}
        self._items = Items()
        self._crew = Crew()
        self.rates = self._crew.rates
        self.rates.know(earlier or {})
        # When all workers were looked at last, for overdue pieces, for what to repeat, and for who is free soon.
        self._checked = self._looked = self._looked_ahead = -math.inf

    # What happens.

    def add(self, cost: float = 1.0) -> int:
        """Take in an item; its number, from 0, is returned. `cost` is its length relative to the others'."""
        return self._items.add(cost)

    def add_worker(self, address: str, name: str, threads: int) -> None:
        """Take in a worker that has nothing to do."""
        self._crew.add(address, name, threads)

    def remove_worker(self, address: str) -> list[Piece]:
        """Forget a worker; its items wait again. Give the pieces that it had."""
        worker = self._crew.remove(address)
        for piece in worker.pieces:
            unanswered = self._items.drop(piece)
            if piece in worker.running:
                self._count_losses(unanswered)
        return worker.pieces

    def set_leaving(self, address: str, *, leaving: bool) -> None:
        """Take note that a worker takes no more work, or does again; what it still finishes is welcome."""
        worker = self._crew.workers[address]
        if worker.leaving != leaving:
            worker.leaving, worker.trusted = leaving, not leaving
            self._crew.stale = True
            self._items.wait_unless_held(item for piece in worker.pieces for item in piece.items)

    def finished(self, piece: Piece, seconds: list[float], now: float) -> Finished:
        """Take note of a piece's answer; `seconds` is how long each of its items took.

        There may be more of them, at the end, than the piece has items, if it has been made shorter.
        """
        worker, items = piece.worker, self._items
        seconds, beyond = seconds[: len(piece.items)], seconds[len(piece.items) :]
        self._crew.stale |= not (worker.trusted and self.rates.measured(worker.name))
        worker.trusted = not worker.leaving
        elapsed = 0.0 if piece.start is None else now - piece.start - math.fsum(beyond)
        self.rates.add(worker.name, [items.cost[item] for item in piece.items], seconds, elapsed)
        new = [place for place, item in enumerate(piece.items) if not items.done[item]]
        for place in new:
            items.answer(piece.items[place])
        others = dict.fromkeys(other for item in piece.items for other in items.copies[item] if other is not piece)
        self._end(piece, now)
        # A piece whose worker is not counted upon stays: its answer would show that the worker is well.
        obsolete = [other for other in others if other.counted_upon and not self.needed(other)]
        for other in obsolete:
            self._end(other, now)
        return Finished(new, obsolete)

    def withdrawn(self, piece: Piece, now: float, *, lost: bool = False) -> None:
        """Take note that a piece will never be answered, perhaps because workers were lost with it; its items wait."""
        unanswered = self._end(piece, now)
        if lost:
            self._count_losses(unanswered)

    # What is.

    @property
    def left(self) -> int:
        """The number of items without an answer."""
        return self._items.left

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Workers by address."""
        return self._crew.workers

    def cost(self, item: int) -> float:
        """Give an item's cost."""
        return self._items.cost[item]

    def needed(self, piece: Piece) -> bool:
        """Tell whether any item of a piece still has no answer."""
        return not all(self._items.done[item] for item in piece.items)

    # What follows.

    def decide(self, now: float) -> Decision:
        """Say what to do next.

        While an item waits, no thread of a worker that is counted upon is idle but in the last moments, when others are
        expected to have done all before it could help.
        """
        if self._crew.stale:
            self._crew.look_at_all(now)
        self._give_up(now)
        decision = Decision([], [], [])
        self._hand_out(now, decision.sent)
        if self._items.first is None and now - self._looked >= LOOK_INTERVAL * len(self.workers):
            self._looked = now
            self._end_sooner(now, decision)
        return decision

    def _end_sooner(self, now: float, decision: Decision) -> None:
        """Let idle threads help others, when no item waits."""
        while self._items.first is None and (piece := not_begun(self._crew, self._items, decision.sent, now)):
            self._end(piece, now)
            decision.taken.append(piece)
            self._hand_out(now, decision.sent)
        if self._items.first is not None:
            return
        for piece, place, parts in take_overs(self._crew, self._items, now):
            decision.sent.extend(self._give(worker, items, now) for worker, items in parts)
            if place:
                self._items.shorten(piece, place)
                self._crew.look_at(piece.worker, now)
                decision.shortened.append(piece)

    def _hand_out(self, now: float, sent: list[Piece]) -> None:
        """Cut pieces for idle threads, the fastest first, and then to have beyond what runs."""
        if self._items.first is None:
            return
        power = self._crew.power()
        # Handing out does not change it.
        end = self._crew.end(self._items.waiting_cost, now)
        soon = now + AHEAD
        for ahead in (False, True):
            able = self._free_before(soon, now) if ahead else list(self._crew.idle.values())
            for worker in sorted(able, key=lambda each: -(self._crew.speed(each) or 0)):
                while self._items.first is not None and (worker.idle or (ahead and worker.room and worker.free < soon)):
                    room = end - (max(now, worker.ready) if ahead else now)
                    items = cut(self._crew, self._items, self.losses, worker, power, room, ahead=ahead)
                    if not items:
                        break
                    sent.append(self._give(worker, items, now))

    def _free_before(self, soon: float, now: float) -> list[Worker]:
        """List busy workers that will have nothing to do by then; none where they were looked at a moment ago."""
        if self._items.first is None or now - self._looked_ahead < LOOK_INTERVAL * len(self.workers):
            return []
        self._looked_ahead = now
        # Before its first answer little is known of a worker; what it needs first may still be on its way.
        first = now + SHORTEST / 2
        busy = [worker for worker in self._crew.open.values() if not worker.idle]
        return [worker for worker in busy if worker.free < (soon if self.rates.measured(worker.name) else first)]

    def _give_up(self, now: float) -> None:
        """Stop counting upon workers with an overdue piece."""
        if now - self._checked < self.patience / 20:
            return
        self._checked = now
        for worker in self.workers.values():
            late = [piece for piece in worker.running if worker.trusted and self._is_late(piece, now)]
            if late:
                worker.trusted = False
                self._crew.stale = True
                for piece in late:
                    piece.overdue = True
                self._items.wait_unless_held(item for piece in worker.pieces for item in piece.items)
        if self._crew.stale:
            self._crew.look_at_all(now)

    def _is_late(self, piece: Piece, now: float) -> bool:
        speed = self._crew.speed(piece.worker)
        if piece.overdue or piece.start is None or speed is None:
            return False
        return now - piece.start > max(self.patience, OVERDUE * piece.cost / speed)

    def _give(self, worker: Worker, items: list[int], now: float) -> Piece:
        piece = Piece(worker, tuple(items), self._items.total_cost(items))
        self._items.hold(piece)
        worker.pieces.append(piece)
        self._crew.look_at(worker, now)
        return piece

    def _end(self, piece: Piece, now: float) -> list[int]:
        """Take a piece from its worker; give its items without an answer, which wait."""
        if piece in piece.worker.pieces:
            piece.worker.pieces.remove(piece)
            self._crew.look_at(piece.worker, now)
        return self._items.drop(piece)

    def _count_losses(self, items: list[int]) -> None:
        for item in items:
            self.losses[item] = self.losses.get(item, 0) + 1
