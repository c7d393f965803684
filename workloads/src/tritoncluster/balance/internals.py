"""What we use of distributed that it does not promise to keep, in one place; each has a test that tells of a change."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from distributed import Client, Status, get_worker, rejoin, secede
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.worker import thread_state

from tritoncluster.balance.turns import Seen
from tritoncluster.errors import ClusterLostError
from tritoncluster.reach import listens

#: Seconds that the scheduler has for an answer.
ANSWER = 30.0
#: Why Dask cancels all futures of a client whose connection to the scheduler breaks.
CONNECTION_LOST = "scheduler-connection-lost"
#: What our chunks are told by among all tasks: an annotation, which says whose they are.
ANNOTATION = "tritoncluster"
#: Tasks that are looked at, at most: of those that wait on a worker, and of those that a client wants.
MOST_READY, MOST_WANTED = 200, 10_000


async def describe_workers(client: Client) -> dict[str, dict[str, Any]]:
    """Give the scheduler's description of each worker, by address.

    `Client.scheduler_info` gives what was asked for before, in the event loop.

    Raises
    ------
    OSError
        When the scheduler does not answer; TimeoutError is one.
    ClusterLostError
        When there is none.
    """
    if client.scheduler is None:
        raise ClusterLostError
    answer: dict[str, Any] = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), ANSWER)
    found: dict[str, dict[str, Any]] = answer["workers"]
    return found


async def left_as_planned(client: Client, address: str) -> bool:
    """Tell whether a worker that is gone was told to go, as by `Client.retire_workers` or an adaptive cluster.

    Its status says so beforehand, but often for moments only. The scheduler logs what happens to a worker under its
    address; `Client.get_events` is that question for other threads.

    Raises
    ------
    OSError
        When the scheduler does not answer.
    ClusterLostError
        When there is none.
    """
    if client.scheduler is None:
        raise ClusterLostError
    events = await asyncio.wait_for(client.scheduler.events(topic=address), ANSWER)
    removals = [event for _, event in events if isinstance(event, dict) and event.get("action") == "remove-worker"]
    return bool(removals and removals[-1].get("expected"))


async def scheduler_id(client: Client | None) -> str:
    """Give what tells a scheduler from the one that was at its address before.

    Raises
    ------
    OSError
        When the scheduler does not answer.
    """
    if client is None or client.scheduler is None:
        raise ConnectionError
    identity = await asyncio.wait_for(client.scheduler.identity(n_workers=0), ANSWER)
    return str(identity["id"])


def keep_connecting(
    client: Client,
    seconds: Callable[[], float],
    gone: Callable[[], None],
    back: Callable[[], None],
    refused: Callable[[str], None],
) -> None:
    """Let a client look for a scheduler that is gone for as long as we say, and tell of it.

    By itself, Dask's client does so for the time that it had to connect at first, and then closes itself. It asks more
    and more seldom meanwhile, and waits for ever for one that accepts the connection and says nothing.

    Parameters
    ----------
    client
        A connected one.
    seconds
        Gives how long. The client closes itself then.
    gone, back
        Called in the client's event loop: when the connection is lost, and the client's futures with it; and when there
        is another one.
    refused
        Called with the reason when the next scheduler refuses this program; the client closes itself.
    """
    reconnect, connect = client._reconnect, client._ensure_connected  # noqa: SLF001 - Dask has no hook
    address = str(client.scheduler.address) if client.scheduler else ""

    async def connect_soon(timeout: float | None = None) -> None:  # noqa: ASYNC109 - as Dask's
        try:
            await asyncio.wait_for(listens(address, client.connection_args), timeout)
            await asyncio.wait_for(connect(timeout=ANSWER), ANSWER)  # type: ignore[no-untyped-call]
        except OSError:
            raise
        except ImportError as error:  # how Dask puts it
            refused(str(error))
            raise
        except Exception as error:
            # The client would neither go on nor end.
            raise OSError(f"what answers is no scheduler: {error!r}") from error

    async def reconnect_patiently() -> None:
        gone()
        own, client._timeout = client._timeout, seconds()  # noqa: SLF001
        try:
            await reconnect()
        finally:
            client._timeout = own  # noqa: SLF001
        if client.status == "running":
            back()

    client._reconnect, client._ensure_connected = reconnect_patiently, connect_soon  # type: ignore[method-assign]  # noqa: SLF001


def is_of_lost_connection(error: BaseException) -> bool:
    """Tell whether an error is that the connection to the scheduler was lost, and futures with it."""
    groups = getattr(error, "error_groups", [])
    return CONNECTION_LOST in [getattr(each, "reason", None) for each in [error, *groups]]


class AwayFromTask:
    """Lets a worker's thread go while its task waits for others: they may need that thread. Does nothing elsewhere."""

    def __init__(self) -> None:
        self._thread: int | None = None

    def leave(self) -> None:
        """Give the thread back to the worker, as `secede` does; joblib asks in the same way whether this is a task."""
        if self._thread is None and hasattr(thread_state, "execution_state"):
            self._thread = threading.get_ident()
            secede()

    def come_back(self) -> None:
        """Wait for a thread of the worker again."""
        if self._thread == threading.get_ident():
            self._thread = None
            rejoin()


def released(key: str) -> Callable[[], bool]:
    """Give what tells, on a worker, whether its task `key` has been released while it runs, which Dask can't stop.

    There is no public way: `WorkerState.tasks` knows a task until it is released, and such a one that runs as
    "cancelled".
    """
    tasks = get_worker().state.tasks

    def is_released() -> bool:
        task = tasks.get(key)
        return task is None or task.state == "cancelled"

    return is_released


class WorkerTasks:
    """What is on the worker that this task runs on.

    There is no public way: `WorkerState` has the tasks that wait for a thread in `ready`, those that threads were given
    to in `executing`, and whether it starts any in `running`; `secede` takes one off the latter. A task has its
    annotations.
    """

    def __init__(self) -> None:
        self.worker = get_worker()

    @property
    def in_thread(self) -> bool:
        """Whether this thread is one of Dask's, and not left by `secede`."""
        return bool(getattr(pool_state, "proceed", False))

    @property
    def closing(self) -> bool:
        """Whether the worker ends."""
        return self.worker.status in (Status.closing, Status.closed, Status.failed)

    def said_of(self, key: str) -> Mapping[str, Any]:
        """Give what the client said of a task of ours; nothing where it is none."""
        task = self.worker.state.tasks.get(key)
        return _said_of(task) if task else {}

    def seen(self) -> Seen:
        """Look at all tasks."""
        state = self.worker.state
        if not state.running:
            return Seen(state.nthreads)
        # Copies, as the worker's event loop goes on; there may be very many that wait.
        executing, ready = list(state.executing), list(islice(state.ready, MOST_READY))
        chunks = {task.key: said for task in [*executing, *ready] if (said := _said_of(task))}
        others = [task for task in executing if task.key not in chunks and not _is_coroutine(task)]
        ours_ready = sum(task.key in chunks for task in ready)
        return Seen(state.nthreads, chunks, len(others), max(0, len(state.ready) - ours_ready))


def _said_of(task: Any) -> Mapping[str, Any]:
    said: Mapping[str, Any] = (task.annotations or {}).get(ANNOTATION, {})
    return said


def _is_coroutine(task: Any) -> bool:
    """Tell whether a task runs in the worker's event loop instead of a thread."""
    return bool(getattr(task.run_spec, "is_coro", False))


def others_work(dask_scheduler: Any) -> tuple[int, bool]:
    """Count clients with unfinished tasks that are not ours, and tell whether such tasks wait at the scheduler.

    Runs in the scheduler's process. Ours are bound to their workers, and never wait there.
    """
    unfinished = ("waiting", "queued", "no-worker", "processing")
    clients = sum(
        any(task.state in unfinished and not _said_of(task) for task in islice(client.wants_what, MOST_WANTED))
        for client in dask_scheduler.clients.values()
    )
    return clients, bool(dask_scheduler.queued)
