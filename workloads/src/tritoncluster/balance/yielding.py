"""Chunks make room on their worker: between two items, one pauses while it is the turn of others.

A chunk that pauses gives its thread back to Dask, which starts what waits, and asks for one again later; what it has
computed stays with it. Whose turn it is, `turns` decides.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from tritoncluster.balance.internals import AwayFromTask, WorkerTasks
from tritoncluster.balance.turns import Stage, Turn, Turns

#: Seconds between looks at who else is there, of a chunk that computes, and of one that is paused.
LOOK, LOOK_PAUSED = 0.01, 0.02

#: Of the workers in this process.
_turns: "WeakKeyDictionary[Any, tuple[Turns, threading.Condition]]" = WeakKeyDictionary()
_lock = threading.Lock()


def turns_of(worker: Any) -> tuple[Turns, threading.Condition]:
    """Give a worker's turns, and what guards them; it is notified when a thread gets free."""
    with _lock:
        return _turns.setdefault(worker, (Turns(), threading.Condition()))


def know(clients: int, queued: bool, *, dask_worker: Any) -> None:  # noqa: FBT001 - Dask passes it on
    """Take note of what this worker does not see of others: see `Turns.know`. Runs in its event loop."""
    turns, guard = turns_of(dask_worker)
    with guard:
        turns.know(clients, time.monotonic(), queued=queued)


class Yielding:
    """A chunk's turn on the thread that it is in.

    Parameters
    ----------
    key
        Of its task.
    released
        Whether nobody wants it any more.
    """

    def __init__(self, key: str, released: Callable[[], bool]) -> None:
        self._released = released
        self._tasks = WorkerTasks()
        self._turns, self._guard = turns_of(self._tasks.worker)
        self._away = AwayFromTask()
        self._said = self._tasks.said_of(key)
        self._key = key
        self._turn: Turn | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        if self._said and "run" in self._said:
            with self._guard:
                self._turn = self._turns.begin(self._key, self._said, self._tasks.seen(), time.monotonic())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._turn:
            with self._guard:
                self._turns.end(self._turn, time.monotonic())
                self._guard.notify_all()

    def go_on(self) -> bool:
        """Wait while it is the turn of others; tell whether anybody still wants the chunk."""
        now = time.monotonic()
        if self._turn and now >= self._next:
            self._next = now + LOOK
            with self._guard:
                # Code of the user's may have left Dask's threads for good.
                paused = self._tasks.in_thread and (
                    self._turn.stage is Stage.PAUSED or self._turns.pauses(self._turn, self._tasks.seen(), now)
                )
            if paused:
                self._pause(self._turn)
        return not self._released()

    def beside(self) -> list[tuple[dict[str, Any], float]]:
        """List what others used on this worker since the run came."""
        if self._turn is None:
            return []
        with self._guard:
            return self._turns.beside(self._turn.run)

    def _pause(self, turn: Turn) -> None:
        self._away.leave()
        with self._guard:
            self._guard.notify_all()
            while not self._turns.resumes(turn, self._tasks.seen(), time.monotonic()):
                if self._released() or self._tasks.closing:
                    return
                self._guard.wait(LOOK_PAUSED)
        # A worker that ends has no threads any more; then nobody waits for the chunk there.
        with suppress(RuntimeError):
            self._away.come_back()
        with self._guard:
            self._turns.came(turn, time.monotonic())
