"""Pieces as tasks of a Dask client, pinned to their workers; all that a run has to do with Dask is here.

A connection knows nothing of what is left to do: when it is lost, that is all still in the run's queue.
"""

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import dask.config
from distributed import Client, Future, KilledWorker

from tritoncluster.balance.crew import Piece
from tritoncluster.balance.pieces import Answer, Call, Sharing, pack, run_piece, stop_key
from tritoncluster.errors import ClusterLostError

#: Where the scheduler keeps speeds for later runs, of any client.
METADATA = "tritoncluster-speeds"


@dataclass(frozen=True)
class Withdrawn:
    """A piece ended without an answer: nobody wanted it any more, or (`lost`) workers were lost that had it."""

    lost: bool


#: How a piece ended.
End: TypeAlias = Answer | Withdrawn | Exception


class Connection:
    """A run's tasks on the cluster. For the client's event loop alone.

    Parameters
    ----------
    client
        Whose cluster.
    name
        What the work is, as in the names of its tasks. Speeds are kept by it.
    sharing
        Where large arguments are.
    afterwards
        A call that is made on the worker, with the results of an item as its first argument.
    ended
        Told how a piece ended; not of those that were forgotten before.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        sharing: Sharing,
        afterwards: Call | None,
        ended: Callable[[Piece, End], None],
    ) -> None:
        self._client, self._name, self._sharing, self._afterwards = client, name, sharing, afterwards
        self._ended = ended
        self._run = uuid4().hex[:8]
        self._sent = 0
        self._tasks: dict[Piece, Future[Any]] = {}
        self._stops: dict[Piece, list[Future[Any]]] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._probe: Future[Any] | None = None

    @property
    def lost(self) -> bool:
        """Whether the scheduler is gone."""
        return bool(self._client.status != "running")

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Give the scheduler's description of each worker, by address."""
        found: dict[str, dict[str, Any]] = (await self._scheduler.identity(n_workers=-1))["workers"]
        return found

    async def known_speeds(self) -> dict[str, float]:
        """Give what earlier runs of any client left."""
        found: dict[str, float] = await self._scheduler.get_metadata(keys=[METADATA, self._name], default={})
        return found

    async def leave_speeds(self, speeds: Mapping[str, float]) -> None:
        """Keep speeds for later runs."""
        if speeds and not self.lost:
            await self._scheduler.set_metadata(keys=[METADATA, self._name], value=dict(speeds))

    def ask_for_workers(self, *, needed: bool) -> None:
        """Let a task wait for a worker, or no longer: an adaptive cluster starts workers for such tasks."""
        if not needed:
            self._probe = None
        elif self._probe is None:
            self._probe = self._client.submit(int, key=f"wake-{self._run}", pure=False)

    def send(self, piece: Piece, items: Sequence[Sequence[Call]]) -> None:
        """Send a piece, whose items have these calls, to its worker."""
        key = f"{self._name}-{self._run}-{self._sent}"
        pickled, shared = pack(items, self._afterwards, self._sharing, piece.worker.address)
        # Many small arguments are no reason to warn of a large task.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            future = self._client.submit(
                run_piece,
                pickled,
                key,
                *shared,
                key=key,
                pure=False,
                workers=[piece.worker.address],
                # Work stealing, too, leaves a task where it is that may run nowhere else.
                allow_other_workers=False,
                # Dask takes tasks that are submitted within a moment in any order.
                priority=-self._sent,
            )
        self._sent += 1
        self._tasks[piece] = future
        following = asyncio.ensure_future(self._follow(piece, future))
        # The event loop does not hold it.
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    def shorten(self, piece: Piece) -> None:
        """Let a piece's worker stop after the items that are still in it."""
        if piece in self._tasks:
            key = stop_key(str(self._tasks[piece].key), len(piece.items))
            stop = self._client.submit(int, key=key, pure=False, workers=[piece.worker.address])
            self._stops.setdefault(piece, []).append(stop)

    def forget(self, piece: Piece) -> None:
        """Let go of a piece: a worker that has not begun with it never will."""
        # Who follows it is not cancelled, but ends when it has been released: the client brings answers that come at
        # once in one go, and cancelling one who waits for them is an error for all. What is finished is on its way:
        # without its data, the client would warn of it and have it computed again.
        future = self._tasks.pop(piece, None)
        if future and future.status != "finished":
            future.release()
        for stop in self._stops.pop(piece, []):
            stop.release()

    def close(self) -> None:
        """Let go of all pieces."""
        for piece in list(self._tasks):
            self.forget(piece)
        self._probe = None

    @property
    def _scheduler(self) -> Any:
        if self._client.scheduler is None:
            raise ClusterLostError
        return self._client.scheduler

    async def _follow(self, piece: Piece, future: Future[Any]) -> None:
        end: End
        try:
            pickled = await future
        except asyncio.CancelledError:
            end = ClusterLostError()
        except Exception as error:  # noqa: BLE001 - whoever waits for results raises it
            end = self._why(error, future)
        else:
            # Nobody looks at what a piece that was forgotten gave.
            end = _unpickled(pickled) if pickled and piece in self._tasks else Withdrawn(lost=False)
        wanted = piece in self._tasks
        self.forget(piece)
        # Here, not by the garbage collector: an error's traceback would keep it.
        future.release()
        if wanted:
            self._ended(piece, end)

    def _why(self, error: Exception, future: Future[Any]) -> End:
        if future.status == "cancelled" or self.lost:
            return ClusterLostError()
        # Dask counts workers too that were lost while they had the piece; or its answer was lost on the way.
        if isinstance(error, KilledWorker) or future.status != "error":
            return Withdrawn(lost=True)
        return error


def _unpickled(pickled: bytes) -> Answer | Exception:
    try:
        answer: Answer = pickle.loads(pickled)  # noqa: S301 - from our own worker, as any result
    except Exception as error:  # noqa: BLE001 - whoever waits for results raises it
        return error
    return answer
