"""What each worker does next: the decisions, without a cluster.

Items wait in the queue; chunks of them are with workers. Nothing here knows Dask, a clock or a network: whoever drives
a `Queue` tells it what happened and when, asks `decide`, and sends what that gives. So one code decides on a cluster,
in tests and in simulations.

- A chunk is a share of what is left, in time, and shrinks towards the end: guided self-scheduling (C. Polychronopoulos
  and D. Kuck, IEEE Trans. Computers C-36, 1987), with a share well below an equal one, against unknown lengths
  (factoring: S. Hummel, E. Schonberg, L. Flynn, CACM 35(8), 1992), for workers of different speed (weighted factoring:
  S. Hummel, J. Schmidt, R. Uma, J. Wein, SPAA 1996) that is measured as they go (adaptive weighted factoring: I.
  Banicescu, V. Velusamy, J. Devaprasad, Cluster Computing 6, 2003). The last chunks are cut so that all answers come
  together.
- When nothing waits, an idle worker steals what another one has not begun, be it a part of a chunk, or repeats what is
  expected to come last; the first answer counts (backup tasks: J. Dean and S. Ghemawat, OSDI 2004; workqueue with
  replication: D. da Silva, W. Cirne, F. Brasileiro, Euro-Par 2003).
- A lost worker's items wait again; so do those of a suspected one, which gets no more until it is heard from. It is
  suspected when whoever drives the queue says so, having asked those that are `doubtful`, or when it has a straggler: a
  chunk that takes longer than `patience` seconds, and ten times as long as expected.
"""

import logging
import math
from collections.abc import Mapping
from operator import attrgetter

from tritoncluster.balance import stragglers
from tritoncluster.balance.chunking import SHORTEST, take_chunk
from tritoncluster.balance.items import Items
from tritoncluster.balance.model import (
    Chunk,
    Decision,
    Event,
    Finished,
    Item,
    Worker,
    WorkerState,
    following,
)
from tritoncluster.balance.pool import LOOK_INTERVAL, NEAR, Pool
from tritoncluster.balance.speculation import split_running, steal_queued

#: Seconds before which no chunk is a straggler.
PATIENCE = 30.0
#: Seconds before a thread has nothing to do in which it gets another chunk: later than it must, so that as much as
#: possible is known by then; sooner than a chunk needs to reach it, also when it runs faster than expected.
AHEAD = 0.25
#: Chunks that one decision sends at most: to make and send one takes the driver a millisecond, in which it can't see to
#: anything else.
MOST_SENT = 200

logger = logging.getLogger(__name__)


class Queue:
    """Items, workers, and who computes what.

    Parameters
    ----------
    earlier
        Names of workers -> their speeds in an earlier run, as `Rates.to_remember` gave them.
    patience
        Seconds before which no chunk is a straggler.

    Attributes
    ----------
    workers : mapping of str to Worker
        By address.
    rates : Rates
        How fast each is.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._items = Items()
        self._pool = Pool()
        self.workers: Mapping[str, Worker] = self._pool.workers
        self.rates = self._pool.rates
        self.rates.know(earlier or {})
        # Workers whose state has changed: others may have answered meanwhile what they have.
        self._changed: list[Worker] = []
        # When all workers were looked at last, for stragglers, for what to repeat, and for who is free soon.
        self._checked = self._looked = self._looked_ahead = -math.inf

    # What happens.

    def add(self, cost: float = 1.0, payload: object = None) -> Item:
        """Take in an item; `cost` is its length relative to the others', `payload` what the driver keeps with it."""
        return self._items.add(cost, payload)

    def skip(self) -> int:
        """Give the next item's number to one that is answered already."""
        return self._items.skip()

    def add_worker(self, address: str, name: str, threads: int) -> None:
        """Take in a worker that has nothing to do."""
        self._pool.add(address, name, threads)

    def remove_worker(self, address: str, *, planned: bool = False) -> list[Chunk]:
        """Forget a worker; its items wait again. Give the chunks that it had.

        It counts as lost with what it was computing, unless that was planned: it was told to close.
        """
        worker = self._pool.remove(address)
        planned = planned or worker.state is WorkerState.RETIRING
        self._happens(worker, Event.GOES)
        for chunk in worker.chunks:
            unanswered = self._items.drop(chunk)
            if chunk in worker.running and not planned:
                _count_losses(unanswered)
        return worker.chunks

    def set_status(self, address: str, status: str) -> None:
        """Take note of a worker's status, as distributed names it: only one that is "running" gets more work."""
        self._happens(self.workers[address], Event.of_status(status))

    def suspect(self, address: str, now: float) -> None:  # noqa: ARG002 - as all that happens at a time
        """Stop counting upon a worker until it answers, or `trust`: what it has waits again."""
        self._happens(self.workers[address], Event.LATE)

    def trust(self, address: str) -> None:
        """Count again upon a worker that was suspected: it has been heard from."""
        self._happens(self.workers[address], Event.HEARD)

    def finished(self, chunk: Chunk, seconds: list[float], now: float) -> Finished:
        """Take note of a chunk's answer; `seconds` is how long each of its items took.

        There may be more of them, at the end, than the chunk has items, if it has been made shorter.
        """
        worker = chunk.worker
        seconds, beyond = seconds[: len(chunk.items)], seconds[len(chunk.items) :]
        first = not self.rates.measured(worker.name)
        elapsed = 0.0 if chunk.start is None else now - chunk.start - math.fsum(beyond)
        self.rates.add(worker.name, [item.cost for item in chunk.items], seconds, elapsed)
        if first:
            self._pool.measured(worker)
        self._happens(worker, Event.HEARD)
        new = [place for place, item in enumerate(chunk.items) if not item.done]
        for place in new:
            self._items.answer(chunk.items[place])
        others = dict.fromkeys(other for item in chunk.items for other in item.holders if other is not chunk)
        self._end(chunk, now)
        # What a suspected worker has stays: its answer would show that it is well.
        obsolete = [other for other in others if other.worker.state is not WorkerState.SUSPECTED and not other.needed]
        for other in obsolete:
            self._end(other, now)
        return Finished(new, obsolete)

    def cut_short(self, chunk: Chunk, number: int, now: float) -> None:
        """Take from a chunk all but its first items, `number` > 0 of them; the others wait unless others have them."""
        rest = chunk.items[number:]
        self._items.shorten(chunk, number)
        self._items.wait_unless_held(rest)
        self._pool.look_at(chunk.worker, now)

    def withdrawn(self, chunk: Chunk, now: float, *, lost: bool = False) -> None:
        """Take note that a chunk will never be answered, perhaps because workers were lost with it; its items wait."""
        unanswered = self._end(chunk, now)
        if lost:
            _count_losses(unanswered)

    # What is.

    @property
    def left(self) -> int:
        """The number of items without an answer."""
        return self._items.left

    def doubtful(self, now: float) -> list[Worker]:
        """List workers that may be slow or gone, and hold up others, which have nothing to do.

        Whoever can ask them calls `suspect` for those that do not answer.
        """
        return stragglers.doubtful(self._pool, now)

    def may_begin(self, now: float) -> bool:
        """Tell whether the first chunks would be no others if more items were known than those that were added."""
        self._pool.refresh(now)
        first = self._items.first
        # Of items that are not alike, the longest come first.
        if first is None or not self._items.alike:
            return False
        # A thread gets two chunks at first, one of them for when it is done with the other. Of whom nothing is known
        # gets an item each; a chunk of some seconds may have one more than fits.
        left = self._items.waiting_cost - 2 * self._pool.threads * first.cost
        return left >= 0 and (not self._pool.power or self._pool.end(left, now) > now + NEAR)

    # What follows.

    def decide(self, now: float) -> Decision:
        """Say what to do next.

        While an item waits, no thread of a worker that is counted upon is idle but in the last moments, when others are
        expected to have done all before it could help; or there is `more` to decide.
        """
        decision = Decision()
        self._give_up(now)
        self._pool.refresh(now)
        self._take_back(now, decision)
        self._hand_out(now, decision.sent)
        if self._items.first is None and now - self._looked >= LOOK_INTERVAL * len(self.workers):
            self._looked = now
            self._end_sooner(now, decision)
        decision.more = len(decision.sent) >= MOST_SENT
        if decision.more:
            self._looked = self._looked_ahead = -math.inf
        return decision

    def _happens(self, worker: Worker, event: Event) -> None:
        state = following(worker.state, event)
        if state is worker.state:
            return
        logger.debug("worker %s at %s: %s, %s -> %s", worker.name, worker.address, event, worker.state, state)
        worker.state = state
        self._items.wait_unless_held(worker.items)
        self._pool.changed(worker)
        self._changed.append(worker)

    def _take_back(self, now: float, decision: Decision) -> None:
        """Take from workers that have been in another state what others have answered meanwhile."""
        for worker in self._changed:
            if worker.state not in (WorkerState.SUSPECTED, WorkerState.GONE):
                needless = [chunk for chunk in worker.chunks if not chunk.needed]
                for chunk in needless:
                    self._end(chunk, now)
                decision.taken.extend(needless)
        self._changed.clear()

    def _end_sooner(self, now: float, decision: Decision) -> None:
        """Let idle threads help others, when no item waits."""
        for chunk in steal_queued(self._pool, decision.sent, now):
            logger.debug("%d items are taken from %s, which has not begun", len(chunk.items), chunk.worker.name)
            self._end(chunk, now)
            decision.taken.append(chunk)
            self._hand_out(now, decision.sent)
            if self._items.first is not None or len(decision.sent) >= MOST_SENT:
                return
        for chunk, place, parts in split_running(self._pool, now):
            logger.debug(
                "%d threads help %s from item %d of %d on", len(parts), chunk.worker.name, place, len(chunk.items)
            )
            decision.sent.extend(self._give(worker, items, now) for worker, items in parts)
            if place:
                self._items.shorten(chunk, place)
                self._pool.look_at(chunk.worker, now)
                decision.shortened.append(chunk)
            if len(decision.sent) >= MOST_SENT:
                return

    def _hand_out(self, now: float, sent: list[Chunk]) -> None:
        """Cut chunks for idle threads, the fastest first, and then to have beyond what runs."""
        if self._items.first is None:
            return
        # Handing out does not change it.
        end = self._pool.end(self._items.waiting_cost, now)
        soon = now + AHEAD
        for ahead in (False, True):
            able = self._free_before(soon, now) if ahead else list(self._pool.idle.values())
            for worker in sorted(able, key=attrgetter("speed"), reverse=True):
                while self._items.first is not None and (worker.idle or (ahead and worker.room and worker.free < soon)):
                    if len(sent) >= MOST_SENT:
                        return
                    room = end - (max(now, worker.ready) if ahead else now)
                    items = take_chunk(self._pool, self._items, worker, room, ahead=ahead)
                    if not items:
                        break
                    sent.append(self._give(worker, items, now))
                # Slower ones would help even less.
                if worker.idle and not ahead:
                    break

    def _free_before(self, soon: float, now: float) -> list[Worker]:
        """List busy workers that will have nothing to do by then; none where they were looked at a moment ago."""
        if self._items.first is None or now - self._looked_ahead < LOOK_INTERVAL * len(self.workers):
            return []
        self._looked_ahead = now
        # Before its first answer little is known of a worker; what it needs first may still be on its way.
        first = now + SHORTEST / 2
        busy = self._pool.ahead.before(soon)
        for worker in busy:
            # What is late is later the longer nothing is heard.
            if worker.free <= now:
                self._pool.look_at(worker, now)
        return [
            worker
            for worker in busy
            if worker.free < soon and (worker.free < first or self.rates.measured(worker.name))
        ]

    def _give_up(self, now: float) -> None:
        """Stop counting upon workers with a straggling chunk."""
        if now - self._checked < self.patience / 20:
            return
        self._checked = now
        for worker in self.workers.values():
            late = stragglers.straggling(self._pool, worker, now, self.patience)
            for chunk in late:
                chunk.straggle()
            if late:
                self._happens(worker, Event.LATE)

    def _give(self, worker: Worker, items: list[Item], now: float) -> Chunk:
        chunk = Chunk(worker, tuple(items))
        self._items.hold(chunk)
        worker.chunks.append(chunk)
        self._pool.look_at(worker, now)
        return chunk

    def _end(self, chunk: Chunk, now: float) -> list[Item]:
        """Take a chunk from its worker; give its items without an answer, which wait."""
        if chunk in chunk.worker.chunks:
            chunk.worker.chunks.remove(chunk)
            self._pool.look_at(chunk.worker, now)
        return self._items.drop(chunk)


def _count_losses(items: list[Item]) -> None:
    for item in items:
        item.losses += 1
