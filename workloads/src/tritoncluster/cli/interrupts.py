"""Ctrl-C: none is lost, and of two at once one counts."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Seconds in which another one means the same: a terminal and whoever watches this process may both send it.
SAME = 1.0
#: Seconds after which one that was lost comes again.
AGAIN = 0.05

#: When the last one came that counts: of `time.monotonic`.
_last = [float("-inf")]


@contextmanager
def interruptible() -> Iterator[None]:
    """Let no Ctrl-C be lost that comes where Python ignores what is raised.

    Dask has a callback in which the end of each garbage collection lands, and with it what was pressed meanwhile.
    """
    before = sys.unraisablehook

    def unraisable(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        _last[0] = float("-inf")
        # At once it would come here again.
        threading.Timer(AGAIN, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let what comes within a second of a Ctrl-C not interrupt again what that one has begun to end."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - _last[0] > SAME:
            _last[0] = now
            signal.default_int_handler(number, frame)

    _last[0] = float("-inf")
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
