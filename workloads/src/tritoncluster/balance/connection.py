"""Chunks as tasks of a Dask client, pinned to their workers; all that a run has to do with Dask is here.

A connection knows nothing of what is left to do: when it is lost, that is all still in the run's queue.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import dask.config
from distributed import Client, Future, KilledWorker

from tritoncluster.balance import internals
from tritoncluster.balance.arguments import Parcel
from tritoncluster.balance.broadcast import PART_BYTES, Sharing
from tritoncluster.balance.chunks import Answer, load_answer, pack_chunk, run_chunk, stop_before
from tritoncluster.balance.contents import Content
from tritoncluster.balance.crowd import who
from tritoncluster.balance.model import Chunk, Item
from tritoncluster.balance.reconnection import ANNOTATION, Presence
from tritoncluster.errors import ClusterLostError
from tritoncluster.known_speeds import ANY_WORK, METADATA

#: Bytes that travel with a chunk, at most, unless that is one item: the scheduler keeps them until it is answered.
CHUNK_BYTES = 16 << 20
#: Dask's priority of chunks; other tasks have 0 unless somebody says otherwise, and shared arguments more.
PRIORITY = 100
#: Seconds that a worker has to take an order; and that pass before a chunk whose arguments did not get there is tried
#: again.
ORDER, AGAIN = 10.0, 0.2


@dataclass(frozen=True)
class Withdrawn:
    """A chunk ended without an answer: nobody wanted it any more, or (`lost`) workers were lost that had it."""

    lost: bool


#: How a chunk ended.
End: TypeAlias = Answer | Withdrawn | BaseException


@dataclass(frozen=True, slots=True)
class Work:
    """What an item is: calls that one worker makes, one after the other, and the bytes that they keep here.

    `keys` are those of its answer in the run's journal.
    """

    parcels: list[Parcel]
    nbytes: int = 0
    keys: tuple[bytes, ...] = ()


class Connection:
    """A run's tasks on the cluster. For the client's event loop alone.

    Parameters
    ----------
    client
        Whose cluster.
    name
        What the work is, as in the names of its tasks.
    sharing
        Where large arguments are.
    afterwards
        A call that is made on the worker, with the results of an item as its first argument.
    ended
        Told how a chunk ended; not of those that were forgotten before.
    supervise
        Runs a coroutine in the background, and hears of it when that fails.
    weight
        The run's share of a worker that others use, too, relative to theirs.

    Attributes
    ----------
    scheduler : Presence
        Whether the scheduler is there.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        sharing: Sharing,
        afterwards: Parcel | None,
        ended: Callable[[Chunk, End], None],
        supervise: Callable[[Coroutine[Any, Any, None]], None],
        weight: float = 1.0,
    ) -> None:
        self._client, self._name, self._sharing, self._afterwards = client, name, sharing, afterwards
        self._ended, self._supervise = ended, supervise
        self.scheduler = Presence(client)
        self._run = uuid4().hex[:8]
        self._said = {"run": self._run, "weight": weight, "work": name, "who": who()}
        self._sent = 0
        # None where what the chunk needs is still on its way.
        self._tasks: dict[Chunk, Future[Any] | None] = {}
        self._wake: Future[Any] | None = None

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Give the scheduler's description of each worker, by address."""
        return await internals.describe_workers(self._client)

    async def left_as_planned(self, address: str) -> bool:
        """Tell whether a worker that is gone was told to go."""
        return await internals.left_as_planned(self._client, address)

    async def known_speeds(self, work: str) -> dict[str, float]:
        """Give what earlier runs of any client left of this work, or else what the scheduler learned of all tasks."""
        return await self._known(work) or await self._known(ANY_WORK)

    async def _known(self, work: str) -> dict[str, float]:
        asked = self._client.get_metadata([METADATA, work], default={})
        found: dict[str, float] = await asyncio.wait_for(asked, internals.ANSWER)
        return found

    async def leave_speeds(self, work: str, speeds: Mapping[str, float]) -> None:
        """Keep speeds of this work for later runs."""
        if speeds and self.scheduler.here:
            await asyncio.wait_for(self._client.set_metadata([METADATA, work], dict(speeds)), internals.ANSWER)

    def ask_for_workers(self, *, needed: bool) -> None:
        """Let a task wait for a worker, or no longer: an adaptive cluster starts workers for such tasks."""
        if not needed:
            self._wake = None
        elif self._wake is None:
            with dask.annotate(**{ANNOTATION: self.scheduler.wait}):
                self._wake = self._client.submit(int, key=f"wake-{self._run}", pure=False)

    def fitting(self, chunk: Chunk) -> int:
        """Give how many of a chunk's first items may travel at once."""
        left = CHUNK_BYTES
        for number, item in enumerate(chunk.items):
            left -= sum(parcel.nbytes - sum(map(len, _shared(parcel))) for parcel in _parcels(item) if parcel.places)
            if left < 0 and number:
                return number
        return len(chunk.items)

    def send(self, chunk: Chunk) -> None:
        """Send a chunk, whose items are `Work`, to its worker."""
        needed = self._needed(chunk)
        self._tasks[chunk] = None
        there = [future for content in needed if (future := self._sharing.there(content))]
        if len(there) == len(needed):
            self._submit(chunk, needed, there)
        else:
            self._supervise(self._submit_later(chunk, needed))

    def shorten(self, chunk: Chunk) -> None:
        """Let a chunk's worker stop after the items that are still in it."""
        if future := self._tasks.get(chunk):
            self._supervise(self._order_to_stop(str(future.key), len(chunk.items), chunk.worker.address))

    def forget(self, chunk: Chunk) -> None:
        """Let go of a chunk: a worker that has not begun with it never will."""
        # Who follows it is not cancelled, but ends when it has been released: the client brings answers that come at
        # once in one go, and cancelling one who waits for them is an error for all. What is finished is on its way:
        # without its data, the client would warn of it and have it computed again.
        future = self._tasks.pop(chunk, None)
        if future and future.status != "finished":
            future.release()

    def close(self) -> None:
        """Let go of all chunks."""
        for chunk in list(self._tasks):
            self.forget(chunk)
        self._wake = None

    def _needed(self, chunk: Chunk) -> list[Content]:
        """List the contents that travel by themselves, each once."""
        parcels = [parcel for item in chunk.items for parcel in _parcels(item)]
        if self._afterwards:
            parcels.append(self._afterwards)
        return list(dict.fromkeys(content for parcel in parcels for content in _shared(parcel)))

    async def _submit_later(self, chunk: Chunk, needed: list[Content]) -> None:
        address = chunk.worker.address
        try:
            futures = [await self._sharing.place(content, address) for content in needed]
        except Exception:  # noqa: BLE001 - workers go at any moment, and Dask then raises what it happens to meet
            await asyncio.sleep(AGAIN)
            if self._tasks.pop(chunk, self) is None:
                self._ended(chunk, self.scheduler.error if self.scheduler.gone else Withdrawn(lost=False))
        else:
            if chunk not in self._tasks:
                return
            if self.scheduler.here:
                self._submit(chunk, needed, futures)
            else:
                del self._tasks[chunk]
                self._ended(chunk, Withdrawn(lost=False))

    def _submit(self, chunk: Chunk, needed: list[Content], futures: list["Future[Any]"]) -> None:
        key = f"{self._name}-{self._run}-{self._sent}"
        pickled = pack_chunk([_parcels(item) for item in chunk.items], self._afterwards, needed)
        # Many small arguments are no reason to warn of a large task.
        with (
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}),
            dask.annotate(**{ANNOTATION: self.scheduler.wait, internals.ANNOTATION: self._said}),
        ):
            future = self._client.submit(
                run_chunk,
                pickled,
                key,
                *futures,
                key=key,
                pure=False,
                workers=[chunk.worker.address],
                # Work stealing, too, leaves a task where it is that may run nowhere else.
                allow_other_workers=False,
                # Before what others have there already, however much that is: a chunk that a thread begins with makes
                # room for them, one that waits can't ask for its share.
                priority=PRIORITY,
                # Dask takes tasks that are submitted within that time in any order.
                fifo_timeout="0 ms",
            )
        self._sent += 1
        self._tasks[chunk] = future
        self._supervise(self._follow(chunk, future, futures))

    async def _order_to_stop(self, key: str, place: int, address: str) -> None:
        # A worker that does not hear of it computes what others do, too.
        with suppress(Exception):
            order = self._client.run(stop_before, key, place, workers=[address], on_error="ignore")
            await asyncio.wait_for(order, ORDER)

    async def _follow(self, chunk: Chunk, future: "Future[Any]", shared: list["Future[Any]"]) -> None:
        end: End
        try:
            pickled = await future
        except asyncio.CancelledError:
            if future.status != "cancelled":
                raise  # it is this coroutine that is cancelled
            end = Withdrawn(lost=False)
        except Exception as error:  # noqa: BLE001 - whoever waits for results raises it
            if chunk not in self._tasks:
                end = Withdrawn(lost=False)
            elif future.status == "cancelled":
                end = await self._why_cancelled(error, chunk, shared)
            else:
                end = self._why(error, future)
        else:
            # Nobody looks at what a chunk that was forgotten gave.
            end = load_answer(pickled) if pickled and chunk in self._tasks else Withdrawn(lost=False)
        wanted = chunk in self._tasks
        self.forget(chunk)
        # Here, not by the garbage collector: an error's traceback would keep them.
        future.release()
        shared.clear()
        if wanted:
            self._ended(chunk, end)

    async def _why_cancelled(self, error: BaseException, chunk: Chunk, shared: list["Future[Any]"]) -> End:
        reason = getattr(error, "reason", "unknown")
        if reason == "scheduler-restart":
            return ClusterLostError("restarted")
        if self.scheduler.gone:
            return self.scheduler.error
        if reason == internals.CONNECTION_LOST or not self.scheduler.here:
            return Withdrawn(lost=False)
        # Data that was sent from here is gone with the last worker that has it, and so are tasks that need it.
        if any(each.status != "finished" for each in shared) or reason in ("lost dependencies", "already forgotten"):
            try:
                return Withdrawn(lost=chunk.worker.address not in await self.workers())
            except OSError:
                return Withdrawn(lost=False)
        return ClusterLostError("cancelled")

    def _why(self, error: Exception, future: "Future[Any]") -> End:
        if self.scheduler.gone:
            return self.scheduler.error
        if not self.scheduler.here:
            return Withdrawn(lost=False)
        # Dask counts workers too that were lost while they had the chunk; or its answer was lost on the way.
        if isinstance(error, KilledWorker) or future.status != "error":
            return Withdrawn(lost=True)
        return error


def _parcels(item: Item) -> list[Parcel]:
    work = item.payload
    return work.parcels if isinstance(work, Work) else []


def _shared(parcel: Parcel) -> list[Content]:
    """List the contents of a call that travel by themselves: what others need, too, and what is very large."""
    return [content for content in parcel.contents if content.calls > 1 or len(content) > PART_BYTES]
