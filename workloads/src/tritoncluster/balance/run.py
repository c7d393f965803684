"""A run: what was asked for, what is answered, and a queue's decisions carried out."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import dask.config
from distributed import Client

from tritoncluster.balance.connection import Connection, End, Withdrawn
from tritoncluster.balance.crew import Piece
from tritoncluster.balance.pieces import Answer, Call, Sharing
from tritoncluster.balance.queue import PATIENCE, Queue
from tritoncluster.balance.summary import Share, new_summary
from tritoncluster.errors import ClusterLostError, WorkersLostError

#: Seconds between looks at what is late, and at which workers are there (more for many workers: the scheduler has to
#: describe each).
TICK, LOOK_AT_WORKERS, LOOK_AT_EACH = 0.1, 0.5, 0.002
#: Seconds after which pieces are sent although more items may come.
START = 0.1
#: Seconds in which speeds reach the scheduler at the end.
LEAVE = 2.0
#: Seconds to wait for a first worker, or for another one when all are gone.
WAIT_FOR_WORKERS = 120.0


@dataclass(frozen=True)
class Result:
    """The answer for one item: the results of its calls, and what was made of them afterwards."""

    item: int
    results: list[Any]
    extra: Any = None


@dataclass(frozen=True)
class Failure:
    """Why a run ended early; `item` is one that it hit, if that is known."""

    error: BaseException
    item: int | None = None


#: What a run gives; None is the end.
Outcome: TypeAlias = Result | Failure | None


class Run:
    """Items of work on a client's cluster.

    Methods may be called from any thread; the decisions are made in the client's event loop.

    Parameters
    ----------
    client
        Whose cluster to use.
    name
        What the work is, as in the names of its tasks. Speeds are remembered by it.
    sharing
        Where large arguments are.
    afterwards
        A call that is made on the worker, with the results of an item as its first argument.
    patience
        Seconds before which no piece is overdue.
    wait_for_workers
        Seconds that the run waits when no worker is there.

    Attributes
    ----------
    summary : Summary
        Who did how much; complete when the run has ended.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        sharing: Sharing,
        *,
        afterwards: Call | None = None,
        patience: float = PATIENCE,
        wait_for_workers: float = WAIT_FOR_WORKERS,
    ) -> None:
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.summary = new_summary(name)
        self._client, self._name = client, name
        self._wait_for_workers = wait_for_workers
        self._allowed = int(dask.config.get("distributed.scheduler.allowed-failures"))
        self._queue = Queue(patience=patience)
        self._calls: list[Sequence[Call] | None] = []
        self._new: deque[tuple[Sequence[Call], float]] = deque()
        self._started = self._complete = self._ended = False
        self._wake = asyncio.Event()
        self._left = threading.Event()
        self._begin = self._seen = time.monotonic()
        self._connection = Connection(client, name, sharing, afterwards, self._piece_ended)
        if not client.loop or client.status != "running":
            raise ClusterLostError
        client.loop.add_callback(self._drive)

    # From any thread.

    def add(self, calls: Sequence[Call], cost: float = 1.0) -> None:
        """Add an item: calls that one worker makes, one after the other. Items are numbered from 0."""
        self._new.append((calls, cost))
        if self._started:
            self._nudge()

    def start(self) -> None:
        """Say that all has been added that is known at the start."""
        self._started = True
        self._nudge()

    def complete(self) -> None:
        """Say that no more items come."""
        self._started = self._complete = True
        self._nudge()

    def end(self) -> None:
        """End now, nothing of what is not finished counts; and wait a moment until speeds are left for later runs."""
        self._started = self._ended = True
        self._nudge()
        # Whoever called may close the client next.
        if self._client.status == "running" and not _in_event_loop():
            self._left.wait(LEAVE)

    def outcome(self) -> Outcome:
        """Wait for a result or a failure; None is the end."""
        while True:
            try:
                return self._outcomes.get(timeout=1.0)
            except Empty:
                if self._client.status == "closed":
                    # Its event loop, where all is done, may have ended with it.
                    self._outcomes.put(None)
                    return Failure(ClusterLostError())

    def _nudge(self) -> None:
        if self._client.loop and self._client.status != "closed":
            self._client.loop.add_callback(self._wake.set)

    # In the event loop.

    async def _drive(self) -> None:
        watching = None
        try:
            self._queue.rates.know(await self._connection.known_speeds())
            await self._look_at_workers()
            # The first pieces are cut with a view of all.
            while not self._started and time.monotonic() < self._begin + START:
                await self._sleep()
            self._started = True
            watching = asyncio.ensure_future(self._watch())
            while not self._ended:
                self._step()
                await self._sleep()
        except Exception as error:  # noqa: BLE001 - the thread that waits for results raises it
            self._fail(ClusterLostError() if self._connection.lost else error)
        finally:
            if watching:
                watching.cancel()
            self._connection.close()
            self._outcomes.put(None)
            try:
                with suppress(OSError, ClusterLostError):
                    await self._connection.leave_speeds(self._speeds_to_leave())
            finally:
                self._left.set()

    async def _sleep(self) -> None:
        """Wait for what happens, but not for long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK)
        self._wake.clear()

    def _speeds_to_leave(self) -> dict[str, float]:
        # A worker without a name is called by its address, which it has only once.
        here = {worker.name for worker in self._queue.workers.values()}
        speeds = self._queue.rates.to_remember()
        return {name: speed for name, speed in speeds.items() if name in here or "://" not in name}

    async def _watch(self) -> None:
        """Follow workers that come and go."""
        while not self._ended:
            try:
                await self._look_at_workers()
            except (OSError, ClusterLostError):
                if self._connection.lost:
                    self._fail(ClusterLostError())
            trusted = any(worker.trusted for worker in self._queue.workers.values())
            self._connection.ask_for_workers(needed=not trusted)
            if trusted:
                self._seen = time.monotonic()
            elif not self._queue.workers and time.monotonic() - self._seen > self._wait_for_workers:
                self._fail(TimeoutError(f"no worker has come in {self._wait_for_workers:g} s; start one"))
            await asyncio.sleep(LOOK_AT_WORKERS + LOOK_AT_EACH * len(self._queue.workers))

    async def _look_at_workers(self) -> None:
        found = await self._connection.workers()
        known = self._queue.workers
        now = time.monotonic()
        for address in known.keys() - found.keys():
            self._lose(address, now)
        for address, worker in found.items():
            if address not in known and worker["status"] == "running":
                self._queue.add_worker(address, str(worker["name"]), worker["nthreads"])
                share = self.summary.shares.setdefault(str(worker["name"]), Share(worker["nthreads"]))
                share.came(now - self._begin)
            elif address in known:
                self._queue.set_leaving(address, leaving=worker["status"] != "running")
        self._wake.set()

    def _lose(self, address: str, now: float) -> None:
        share = self.summary.shares[self._queue.workers[address].name]
        share.went(now - self._begin)
        for piece in self._queue.remove_worker(address):
            share.lost += len(piece.items) if piece.start is not None else 0
            self._connection.forget(piece)
        self._check_losses()

    def _check_losses(self) -> None:
        for item, losses in self._queue.losses.items():
            if losses > self._allowed:
                self._fail(WorkersLostError(self._name, losses), item)
                return

    def _step(self) -> None:
        """Take what was added, and send what is decided."""
        while self._new:
            calls, cost = self._new.popleft()
            self._calls.append(calls)
            self._queue.add(cost)
        if self._complete and not self._queue.left and not self._new:
            self._ended = True
            return
        decision = self._queue.decide(time.monotonic())
        for piece in decision.taken:
            self._connection.forget(piece)
        for piece in decision.shortened:
            self._connection.shorten(piece)
        for piece in decision.sent:
            try:
                self._connection.send(piece, [self._calls[item] or () for item in piece.items])
            except Exception as error:  # noqa: BLE001 - as what can't be pickled
                self._fail(error, piece.items[0])
                return

    def _piece_ended(self, piece: Piece, end: End) -> None:
        try:
            self._take_note(piece, end, time.monotonic())
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it, and the run never end
            self._fail(error)
        self._wake.set()

    def _take_note(self, piece: Piece, end: End, now: float) -> None:
        match end:
            case Answer():
                self._answered(piece, end, now)
            case Withdrawn(lost=lost):
                self._queue.withdrawn(piece, now, lost=lost)
                self._check_losses()
            case ClusterLostError():
                self._fail(end)
            case error if self._queue.needed(piece):
                error.add_note(f"on worker {piece.worker.name} at {piece.worker.address}")
                self._fail(error, piece.items[0])
            case _:
                self._queue.withdrawn(piece, now)

    def _answered(self, piece: Piece, answer: Answer, now: float) -> None:
        finished = self._queue.finished(piece, answer.seconds, now)
        for other in finished.obsolete:
            self._connection.forget(other)
        share = self.summary.shares[piece.worker.name]
        share.pieces += 1
        share.items += len(piece.items)
        share.repeats += len(piece.items) - len(finished.new)
        share.work += piece.cost
        # A piece that was cut is told so while it runs: what it did beyond that counts for nothing.
        share.busy += sum(answer.seconds[: len(piece.items)])
        for place in finished.new:
            item = piece.items[place]
            self.summary.work += self._queue.cost(item)
            self._calls[item] = None
            self._outcomes.put(Result(item, answer.results[place], answer.extras[place]))
        self.summary.seconds = now - self._begin

    def _fail(self, error: BaseException, item: int | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._outcomes.put(Failure(error, item))
        self._wake.set()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
