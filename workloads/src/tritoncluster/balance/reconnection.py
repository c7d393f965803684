"""Outliving a scheduler: how long a run waits for one that is gone, and what is put onto the next one.

Dask keeps nothing of a scheduler that ends: futures, data, plugins and metadata are gone, its workers end, and come
back as others if something restarts them. A run has all that it needs on its own side, so it begins again with what has
no answer. A scheduler that is stopped, and not gone, keeps its connections; it is found out by asking it.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import dask.config
from dask.utils import parse_timedelta
from distributed import Client

from tritoncluster.balance import internals
from tritoncluster.errors import ClusterLostError, InputError
from tritoncluster.quantities import seconds as duration

#: Dask's configuration of how long to wait for a scheduler that is gone.
WAIT, DEFAULT = "tritoncluster.wait", "10 minutes"
#: The annotation of tasks whose run goes on when their scheduler is replaced: for how many seconds it waits.
ANNOTATION = "tritoncluster_waits"
#: Seconds between looks at whether a scheduler is back.
TICK = 0.1
#: Seconds for other clients of this program to put back what they had on a scheduler; for all that to be done, beyond
#: those for which a scheduler is waited for.
OTHERS, RESTORE = 60.0, 180.0

logger = logging.getLogger(__name__)

T = TypeVar("T")


def parse_wait(value: str | float) -> float:
    """Give the seconds of a duration, which a person has written.

    Raises
    ------
    InputError
        When it is none.
    """
    try:
        seconds = float(parse_timedelta(value, default="s"))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"'{value}' is no duration to wait for a lost scheduler; write one like 90s or 10m, or 0")
    return seconds


def configured_wait() -> float:
    """Give the seconds that Dask's configuration has under `tritoncluster.wait`."""
    return parse_wait(dask.config.get(WAIT, DEFAULT))


class Link:
    """What a client and its scheduler have with each other. One for each client; see `link_of`.

    Parameters
    ----------
    client
        A connected one.

    Attributes
    ----------
    address : str
        The scheduler's.
    wait : float
        Seconds for which the client looks for a scheduler that is gone; 0 for one of this process: it does not return.
    error : Exception or None
        Why what was on the scheduler could not be put onto the next one.
    refusal : str
        Why the next one lets this program not in; "" where it does.
    """

    def __init__(self, client: Client) -> None:
        self.address = str(client.scheduler.address) if client.scheduler else ""
        # Who has links has them by their clients, which would stay for ever.
        self._weak = ref(client)
        self.wait = 0.0 if client.cluster else configured_wait()
        self.error: Exception | None = None
        self.refusal = ""
        self._restorers: list[Callable[[], Awaitable[None]]] = []
        self._restored_on = ""
        self._restoring: asyncio.Task[None] | None = None
        # The client is connected a moment before we hear of it.
        self._complete = True
        if not client.cluster and client.status == "running":
            internals.keep_connecting(client, lambda: self.wait, self._gone, self._back, self._refused)

    @property
    def closed(self) -> bool:
        """Whether the client has given up, or was closed."""
        client = self._weak()
        return client is None or client.status not in ("running", "connecting")

    @property
    def connection(self) -> object | None:
        """The connection, when all is there that belongs onto the scheduler: the same as long as the tasks last."""
        client = self._weak()
        return client.scheduler_comm if client and client.status == "running" and self._complete else None

    # In the client's event loop.

    async def add(self, restore: Callable[[], Awaitable[None]]) -> None:
        """Have something put onto each scheduler that follows this one."""
        with suppress(OSError):
            self._restored_on = await internals.scheduler_id(self._weak())
        self._restorers.append(restore)

    def remove(self, restore: Callable[[], Awaitable[None]]) -> None:
        """End that."""
        self._restorers.remove(restore)

    def _gone(self) -> None:
        self._complete = False
        if self._restoring:
            self._restoring.cancel()
            self._restoring = None

    def _back(self) -> None:
        self._restoring = asyncio.ensure_future(self._restore())
        self._restoring.add_done_callback(self._restored)

    def _refused(self, why: str) -> None:
        self.refusal = why

    def _restored(self, task: "asyncio.Task[None]") -> None:
        if task is self._restoring:
            self._restoring, self._complete = None, True
            error = None if task.cancelled() else task.exception()
            self.error = error if isinstance(error, Exception) else None

    async def _restore(self) -> None:
        # A scheduler that is gone again ends this by `_gone`.
        while (client := self._weak()) is not None and not self.closed:
            try:
                scheduler = await internals.scheduler_id(client)
                for restore in list(self._restorers):
                    await restore()
            except OSError:
                await asyncio.sleep(TICK)
            else:
                self._restored_on = scheduler
                break
        # A script's files are there by the client that runs the script, which is not the script's own.
        until = time.monotonic() + OTHERS
        while self._others_restore() and time.monotonic() < until:  # noqa: ASYNC110 - in loops of their own
            await asyncio.sleep(TICK)

    def _others_restore(self) -> bool:
        return any(
            link._restorers and link._restored_on != self._restored_on and not link.closed  # noqa: SLF001 - one of us
            for link in list(_links.values())
            if link.address == self.address
        )


_links: "WeakKeyDictionary[Client, Link]" = WeakKeyDictionary()
_lock = threading.Lock()
#: Address of a scheduler that is waited for -> since when: people are told once, by whichever run sees it first.
_missed: dict[str, float] = {}


def link_of(client: Client) -> Link:
    """Give the link of a client, which from now on waits for a scheduler as Dask's configuration says.

    Raises
    ------
    InputError
        When that says no duration.
    """
    with _lock:
        link = _links.get(client)
        if link is None:
            link = _links[client] = Link(client)
        elif not client.cluster:
            link.wait = configured_wait()
        return link


def on_return(client: Client, restore: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Have something put onto each scheduler that follows the client's present one; give what ends that.

    Parameters
    ----------
    client
        Whose scheduler. This is called from another thread than that of its event loop.
    restore
        Called in the event loop. No run goes on before it is done; what it raises ends them, but OSError, after which
        it is tried again.
    """
    link = link_of(client)
    client.sync(link.add, restore)
    return lambda: link.remove(restore)


class Presence:
    """Whether the scheduler is there that a run has its tasks on. For the client's event loop.

    Parameters
    ----------
    client
        The run's.
    """

    def __init__(self, client: Client) -> None:
        self._link = link_of(client)
        # A scheduler of this process is never waited for, and may be busy with what else is in it.
        self._embedded = bool(client.cluster)
        self._connection = self._link.connection
        self._missing: float | None = None

    @property
    def wait(self) -> float:
        """The seconds that the run waits for a scheduler."""
        return self._link.wait

    @property
    def here(self) -> bool:
        """Whether it is connected, and the same."""
        return self._connection is not None and self._connection is self._link.connection

    @property
    def gone(self) -> bool:
        """Whether none will come any more."""
        return self._link.closed

    @property
    def error(self) -> ClusterLostError:
        """What to raise then."""
        return ClusterLostError(waited=self.wait, refusal=self._link.refusal)

    def take_next(self) -> bool:
        """Take to the scheduler that is there; tell whether it is another one, which has nothing of the run's."""
        connection = self._link.connection
        if connection is None or connection is self._connection:
            return False
        self._connection = connection
        return True

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the scheduler something; tell people when it is waited for, and when it is back.

        Raises
        ------
        OSError
            When it does not answer.
        Exception
            What ends the run: `error`, when it was waited for long enough, and what the question raises.
        """
        if self._link.error:
            raise self._link.error
        try:
            answer = await self._answer(question)
        except (OSError, ClusterLostError) as error:
            self._miss()
            raise OSError(str(error)) from error
        self._found()
        return answer

    async def _answer(self, question: Callable[[], Awaitable[T]]) -> T:
        if not self.here:
            raise ConnectionError("the scheduler is gone")
        asking = asyncio.ensure_future(question())
        try:
            # What asks a scheduler that is gone connects, for up to half a minute.
            while not asking.done():
                if not self.here:
                    raise ConnectionError("the scheduler went away")
                await asyncio.wait([asking], timeout=TICK)
            return asking.result()
        finally:
            # It may raise while it is given up, which would be logged as an error that nobody took.
            asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
            asking.cancel()

    def _miss(self) -> None:
        now = time.monotonic()
        self._missing = self._missing or now
        # The client gives up by itself where there is no connection. A scheduler may be busy for one question.
        limit = max(self.wait, internals.ANSWER) if self.here else self.wait + RESTORE
        if self.gone or (not self._embedded and now - self._missing >= limit):
            with _lock:
                _missed.pop(self._link.address, None)
            raise self.error
        if self._embedded:
            return
        with _lock:
            told = self._link.address in _missed
            _missed.setdefault(self._link.address, now)
        if not told:
            what = "does not answer" if self.here else "is gone"
            logger.warning(
                "The scheduler at %s %s: waiting for it, up to %s", self._link.address, what, duration(self.wait)
            )

    def _found(self) -> None:
        self._missing = None
        with _lock:
            since = _missed.pop(self._link.address, None)
        if since is not None:
            away = duration(time.monotonic() - since)
            logger.warning("The scheduler at %s is back after %s: the work goes on", self._link.address, away)


def ask(client: Client, question: Callable[[], Awaitable[T]]) -> T:
    """Ask a client's scheduler something, from another thread than the client's; wait for one that is gone.

    Raises
    ------
    Exception
        When it is not back in time, or for what the question raises.
    """

    async def persist() -> Any:
        presence = Presence(client)
        while True:
            presence.take_next()
            try:
                return await presence.ask(lambda: asyncio.wait_for(question(), internals.ANSWER))
            except OSError:
                await asyncio.sleep(TICK)

    answer: T = client.sync(persist)
    return answer
