"""What a run does in the client's event loop: it carries out a queue's decisions, and follows workers."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import dask.config
from distributed import Client

from tritoncluster.balance.arguments import Call, Parcel
from tritoncluster.balance.arrays import READ_ONLY_BYTES
from tritoncluster.balance.bell import Bell
from tritoncluster.balance.broadcast import Sharing
from tritoncluster.balance.choice import chosen_workers
from tritoncluster.balance.chunks import Answer
from tritoncluster.balance.connection import Connection, End, Withdrawn, Work
from tritoncluster.balance.crowd import Crowd
from tritoncluster.balance.functions import name_of, work_of
from tritoncluster.balance.kept import Keeper, Kept
from tritoncluster.balance.model import Chunk, Item
from tritoncluster.balance.outcomes import Failure, Outcomes, Result, Room
from tritoncluster.balance.probe import is_alive
from tritoncluster.balance.queue import PATIENCE, Queue
from tritoncluster.balance.summary import Share, new_summary
from tritoncluster.errors import ClusterLostError, NoWorkersError, WorkersLostError
from tritoncluster.quantities import seconds as duration

#: Seconds between looks at what is late, and at which workers are there (more for many workers: the scheduler has to
#: describe each).
TICK, LOOK_AT_WORKERS, LOOK_AT_EACH = 0.1, 0.5, 0.002
#: Seconds after which chunks are sent although more items may come; between looks at whether they may be sent before.
START, GLANCE = 0.1, 0.005
#: Seconds to wait for a first worker, or for another one when all are gone; after which it is said that none is there.
WAIT_FOR_WORKERS, SAY = 120.0, 5.0
#: Bytes of arguments that wait for an answer, above which no more are taken in; but always so many items a thread.
ARGUMENT_BYTES, ITEMS_PER_THREAD = 256 << 20, 2
#: Seconds before a worker that is late, but answered, is asked again.
ASK_AGAIN = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is done.

    Parameters
    ----------
    afterwards
        A call that is made on the worker, with the results of an item as its first argument.
    patience
        Seconds before which no chunk is a straggler.
    wait_for_workers
        Seconds that the run waits when no worker is there.
    keep_results
        Whether a journal keeps results, or only what `afterwards` makes of them; of an item that comes from there, they
        are None then.
    bounded, ordered
        Whether results may be left alone for long; whether they are taken in the order of the items.
    read_only_bytes
        Arrays of more bytes are read-only in calls; None for none.
    weight
        The run's share of a worker that others use, too, relative to theirs.
    """

    afterwards: Call | None = None
    keep_results: bool = True
    patience: float = PATIENCE
    wait_for_workers: float = WAIT_FOR_WORKERS
    bounded: bool = False
    ordered: bool = True
    read_only_bytes: float | None = READ_ONLY_BYTES
    weight: float = 1.0


class Driver:
    """Drives a queue of items on a cluster. For the client's event loop, but for what says otherwise.

    Parameters
    ----------
    client
        Whose cluster to use.
    function
        What is called, for the names of tasks. Speeds are remembered by it.
    sharing
        Where large arguments are.
    afterwards
        `Options.afterwards`, pickled.
    options
        How it is done.
    keeper
        Keeps what is answered, if anybody does.

    Attributes
    ----------
    new : deque of (Work or Kept, float)
        Items that were added, answered already or not, and their costs. Any thread may append to it.
    started, complete, ended : bool
        Whether all has been added that is known at the start; whether no more items come; whether this is over. Any
        thread may make them true, and then calls `nudge`.
    outcomes, room
        What the other threads wait for.
    left : bool
        Whether nothing more is to be done, speeds have been left for later runs; `bell` rings then.
    summary : Summary
        Who did how much; complete when the run has ended.
    seconds_of_call : float or None
        How long a call took in the last answer; None before the first one.
    """

    def __init__(
        self,
        client: Client,
        function: Any,
        sharing: Sharing,
        afterwards: Parcel | None,
        options: Options,
        keeper: Keeper | None = None,
    ) -> None:
        self.outcomes = Outcomes(bounded=options.bounded, ordered=options.ordered)
        self.room = Room(0, ARGUMENT_BYTES)
        self.new: deque[tuple[Work | Kept, float]] = deque()
        self.started = self.complete = self.ended = self._nudged = False
        self.left, self.bell = False, Bell()
        self._client, self._options, self._keeper = client, options, keeper
        self._name, self._work = name_of(function), work_of(function)
        self.summary = new_summary(self._name)
        self.summary.weight = options.weight
        self.seconds_of_call: float | None = None
        self._allowed = int(dask.config.get("distributed.scheduler.allowed-failures"))
        self._queue = Queue(patience=options.patience)
        self._chosen = chosen_workers()
        self._wake = asyncio.Event()
        self._looked = False
        # Where nobody else could do the work, workers that hang are as good as none.
        self._silence = self._chosen.silence if self._chosen else None
        self._wait_for_workers = self._silence or options.wait_for_workers
        self._said = False
        self._begin = self._seen = time.monotonic()
        self._ask_again: dict[str, float] = {}
        # Workers that gave no answer to a question, and have not been heard from since.
        self._silent: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._connection = Connection(
            client, self._name, sharing, afterwards, self._chunk_ended, self._supervise, options.weight
        )
        self._scheduler = self._connection.scheduler
        self._crowd = Crowd(client)

    @property
    def lost(self) -> ClusterLostError:
        """What to raise when the client is closed."""
        return self._scheduler.error

    def nudge(self) -> None:
        """Let it see what has changed; any thread may call this."""
        # One that is on its way brings all.
        if not self._nudged and self._client.loop and self._client.status != "closed":
            self._nudged = True
            self._client.loop.add_callback(self._wake_up)

    async def drive(self) -> None:
        """Do all that is to be done, to the end."""
        try:
            self._supervise(self._watch())
            while not self.ended and not self._may_begin(time.monotonic()):
                await self._sleep(GLANCE if self._looked else TICK)
            self.started = True
            while not self.ended:
                self._step()
                await self._sleep()
        except BaseException as error:  # noqa: BLE001 - the thread that waits for results raises it
            self._fail(self.lost if self._scheduler.gone else error)
        finally:
            self.room.close()
            self._connection.close()
            self.outcomes.put(None)
            try:
                with suppress(OSError, ClusterLostError):
                    await self._connection.leave_speeds(self._work, self._speeds_to_leave())
            finally:
                self.left = True
                self.bell.ring()

    def _wake_up(self) -> None:
        self._nudged = False
        self._wake.set()

    def _supervise(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background; what it raises ends the run."""
        task = asyncio.ensure_future(work)
        # The event loop does not hold it.
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if task.cancelled():
            self._fail(ClusterLostError())
        elif error := task.exception():
            self._fail(self.lost if self._scheduler.gone else error)

    def _may_begin(self, now: float) -> bool:
        """Tell whether to cut the first chunks: with a view of all items, or of so many that more change nothing."""
        if not self._looked:
            return False
        self._take_in()
        return self.started or now >= self._begin + START or self._queue.may_begin(now)

    async def _sleep(self, seconds: float = TICK) -> None:
        """Wait for what happens, but not for long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    def _speeds_to_leave(self) -> dict[str, float]:
        # A worker without a name is called by its address, which it has only once.
        here = {worker.name for worker in self._queue.workers.values()}
        speeds = self._queue.rates.to_remember()
        return {name: speed for name, speed in speeds.items() if name in here or "://" not in name}

    async def _watch(self) -> None:
        """Follow the scheduler, and workers that come and go."""
        while not self.ended:
            if self._scheduler.take_next():
                self._begin_again()
            try:
                await self._scheduler.ask(self._look)
            except OSError:
                # While it is gone, nothing can be said of workers.
                self._seen = time.monotonic()
            if not self._scheduler.here:
                await asyncio.sleep(TICK)
                continue
            trusted = any(worker.trusted for worker in self._queue.workers.values())
            self._connection.ask_for_workers(needed=not trusted)
            self._supervise(self._crowd.look(list(self._queue.workers), time.monotonic()))
            now = time.monotonic()
            if trusted:
                self._seen, self._said = now, False
            else:
                self._nobody_is_here(now - self._seen)
            self._silent &= self._queue.workers.keys()
            for address in self._doubtful(now) | self._silent:
                # One question at a time, and not again and again to one that is well.
                if now >= self._ask_again.get(address, 0.0):
                    self._ask_again[address] = math.inf
                    self._supervise(self._ask(address))
            await asyncio.sleep(LOOK_AT_WORKERS + LOOK_AT_EACH * len(self._queue.workers))

    def _nobody_is_here(self, seconds: float) -> None:
        """See to it that for so many seconds no worker was there, or none that answers and takes work."""
        there = bool(self._queue.workers)
        if seconds > self._wait_for_workers and (self._silence or not there):
            did, then = ("answered, or taken work,", "see whether they hang") if there else ("come", "start one")
            self._fail(NoWorkersError(f"no worker has {did} in {self._wait_for_workers:g} s; {then}"))
        elif seconds > SAY and not self._said:
            self._said = True
            limit = f" for {duration(self._wait_for_workers)}" if self._silence or not there else ""
            logger.warning("No worker %s: waiting%s", "answers and takes work" if there else "is there", limit)

    def _doubtful(self, now: float) -> set[str]:
        """Give the addresses of workers to ask whether they are well."""
        asked = self._queue.workers.values() if self._silence else self._queue.doubtful(now)
        return {worker.address for worker in asked}

    async def _ask(self, address: str) -> None:
        """See whether a worker that holds others up is slow or gone."""
        alive = await is_alive(self._client, address)
        now = time.monotonic()
        self._ask_again[address] = now + ASK_AGAIN
        # It may have answered meanwhile.
        if alive:
            self._silent.discard(address)
            if address in self._queue.workers:
                self._queue.trust(address)
        elif address in self._doubtful(now):
            self._silent.add(address)
            self.summary.shares[self._queue.workers[address].name].silent = True
            self._queue.suspect(address, now)
        self._wake.set()

    def _begin_again(self) -> None:
        """Take back all that was on a scheduler that is gone; nobody is to blame for it."""
        now = time.monotonic()
        for address in list(self._queue.workers):
            self._lose(address, now, planned=True)
        self._connection.ask_for_workers(needed=False)
        self._silent.clear()
        self._ask_again.clear()
        # Its host may have been restarted, and theirs with it.
        wait = WAIT_FOR_WORKERS if self._silence else self._scheduler.wait
        self._wait_for_workers = max(self._wait_for_workers, wait)
        self._seen, self._said = now, False

    async def _look(self) -> None:
        if not self._looked:
            self._queue.rates.know(await self._connection.known_speeds(self._work))
        await self._look_at_workers()
        self._looked = True
        self._wake.set()

    async def _look_at_workers(self) -> None:
        found = await self._connection.workers()
        if self._chosen is not None:
            found = {address: worker for address, worker in found.items() if str(worker["name"]) in self._chosen.names}
        known = self._queue.workers
        now = time.monotonic()
        for address in known.keys() - found.keys():
            self._lose(address, now, planned=await self._connection.left_as_planned(address))
        for address, worker in found.items():
            if address not in known and worker["status"] == "running":
                self._queue.add_worker(address, str(worker["name"]), worker["nthreads"])
                share = self.summary.shares.setdefault(str(worker["name"]), Share(worker["nthreads"]))
                share.came(now - self._begin)
            elif address in known:
                self._queue.set_status(address, worker["status"])
        self.room.items = ITEMS_PER_THREAD * sum(worker.threads for worker in known.values())
        self._wake.set()

    def _lose(self, address: str, now: float, *, planned: bool) -> None:
        share = self.summary.shares[self._queue.workers[address].name]
        share.went(now - self._begin)
        for chunk in self._queue.remove_worker(address, planned=planned):
            share.lost += len(chunk.items) if chunk.start is not None else 0
            self._connection.forget(chunk)
            self._check_losses(chunk.items)

    def _check_losses(self, items: Iterable[Item]) -> None:
        for item in items:
            if item.losses > self._allowed and not item.done:
                self._fail(WorkersLostError(self._name, item.losses), item.number)
                return

    def _step(self) -> None:
        """Take what was added, and send what is decided."""
        self._take_in()
        if self.complete and not self._queue.left and not self.new:
            self.ended = True
            return
        if not self._scheduler.here:
            return
        # Who waits for room can't take results meanwhile.
        if self.outcomes.enough and not self.room.waiting:
            return
        decision = self._queue.decide(time.monotonic())
        if decision.more:
            # Others use this event loop, too.
            self._wake.set()
        for chunk in decision.taken:
            self._connection.forget(chunk)
        for chunk in decision.shortened:
            self._connection.shorten(chunk)
        for chunk in decision.sent:
            if (number := self._connection.fitting(chunk)) < len(chunk.items):
                self._queue.cut_short(chunk, number, time.monotonic())
                self._wake.set()
            self._connection.send(chunk)

    def _take_in(self) -> None:
        """Let the queue have what was added; what is kept of an earlier run is answered at once."""
        while self.new:
            work, cost = self.new.popleft()
            if isinstance(work, Kept):
                self.summary.kept += 1
                self.outcomes.put(Result(self._queue.skip(), work, work.calls))
            else:
                self._queue.add(cost, work)

    def _chunk_ended(self, chunk: Chunk, end: End) -> None:
        try:
            self._take_note(chunk, end, time.monotonic())
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it, and the run never end
            self._fail(error)
        self._wake.set()

    def _take_note(self, chunk: Chunk, end: End, now: float) -> None:
        match end:
            case Answer():
                self._answered(chunk, end, now)
            case Withdrawn(lost=lost):
                self._queue.withdrawn(chunk, now, lost=lost)
                self._check_losses(chunk.items)
            case ClusterLostError():
                self._fail(end)
            case error if chunk.needed:
                where = f"on worker {chunk.worker.name} at {chunk.worker.address}"
                self._fail_with(Failure(error, chunk.items[0].number, where))
            case _:
                self._queue.withdrawn(chunk, now)

    def _answered(self, chunk: Chunk, answer: Answer, now: float) -> None:
        done = len(answer.seconds)
        # A worker answers early when a call failed, and when its answer gets large.
        following = chunk.items[done] if done < len(chunk.items) else None
        if answer.failure and following and not following.done:
            where = f"on worker {chunk.worker.name} at {chunk.worker.address}"
            failure = Failure(answer.failure, following.number, where)
        else:
            failure = None
        if not done:
            self._queue.withdrawn(chunk, now)
        else:
            if following:
                self._queue.cut_short(chunk, done, now)
            self._take_results(chunk, answer, now)
        if failure:
            self._fail_with(failure)

    def _take_results(self, chunk: Chunk, answer: Answer, now: float) -> None:
        finished = self._queue.finished(chunk, answer.seconds, now)
        for other in finished.obsolete:
            self._connection.forget(other)
        share = self.summary.shares[chunk.worker.name]
        share.chunks += 1
        share.items += len(chunk.items)
        share.repeats += len(chunk.items) - len(finished.new)
        share.work += chunk.cost
        share.beside[chunk.worker.address] = answer.beside
        # A chunk that was cut is told so while it runs: what it did beyond that counts for nothing.
        share.busy += sum(answer.seconds[: len(chunk.items)])
        nbytes = 0
        for place in finished.new:
            item = chunk.items[place]
            work = cast("Work", item.payload)
            self.summary.work += item.cost
            nbytes += work.nbytes
            self.outcomes.put(Result(item.number, answer.results[place], len(work.parcels)))
            if self._keeper:
                self._keeper.keep(work.keys, answer.results[place])
            item.payload = None
        self.room.give_back(len(finished.new), nbytes)
        self.summary.seconds = now - self._begin
        self.seconds_of_call = sum(answer.seconds) / sum(len(each.parts) for each in answer.results)

    def _fail(self, error: BaseException, item: int | None = None) -> None:
        self._fail_with(Failure(error, item))

    def _fail_with(self, failure: Failure) -> None:
        if not self.ended:
            self.ended = True
            self.outcomes.put(failure)
            self.room.close()
        self._wake.set()
