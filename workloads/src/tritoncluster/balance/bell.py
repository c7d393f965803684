"""Waking a thread that waits for the event loop, whatever Ctrl-C interrupts."""

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Wakes those who wait for something to become true.

    `threading.Condition` and `Event` are written in Python: Ctrl-C may come when they have their lock, and before the
    block begins that gives it back. Whoever rings, here the event loop, then waits for ever. This has no lock.
    """

    def __init__(self) -> None:
        self._waiting: list[SimpleQueue[None]] = []

    @property
    def heard(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def ring(self) -> None:
        """Say that something has changed."""
        for waiting in tuple(self._waiting):
            waiting.put(None)

    def wait_for(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until it holds, and tell whether it does."""
        until = time.monotonic() + seconds
        rung: SimpleQueue[None] = SimpleQueue()
        self._waiting.append(rung)
        try:
            while not (held := holds()) and (left := until - time.monotonic()) > 0:
                with suppress(Empty):
                    rung.get(timeout=left)
            return held
        finally:
            self._waiting.remove(rung)
