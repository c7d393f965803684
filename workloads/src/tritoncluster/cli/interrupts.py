"""Ctrl-C, pressed more than once or sent twice."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Seconds in which another one means the same: a terminal and whoever watches this process may both send it.
SAME = 1.0


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let what comes within a second of a Ctrl-C not interrupt again what that one has begun to end."""
    last = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SAME:
            last = now
            signal.default_int_handler(number, frame)

    with _handled(interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C not interrupt what is done in a moment, as writing what was finished."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    # Python calls handlers in its main thread alone; who ignores Ctrl-C, or has a handler, goes on to.
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, signal.SIG_DFL, None):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
