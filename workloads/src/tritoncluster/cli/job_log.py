"""What a job of the jobs service prints goes to its log; when the disk is full, the work goes on all the same."""

import io
import sys
import threading
from typing import Any

from tritoncluster.errors import FULL

#: Bytes that wait for room; what is printed after these is lost.
MOST = 2**16


class _Log(io.FileIO):
    """A standard stream that a full disk does not break: what there is no room for is written when there is."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._held = b""
        # A signal may come while this thread writes, and have something to print.
        self._lock = threading.RLock()

    def write(self, data: Any) -> int:
        """Write, now or later."""
        with self._lock:
            new = bytes(data)
            self._held += new
            try:
                while self._held:
                    self._held = self._held[super().write(self._held) or 0 :]
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._held = self._held[:MOST]
        return len(new)


def outlive_full_disk() -> None:
    """Let standard output and error of this process be such streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        log = _Log(stream.fileno())
        # As Python makes them where nothing is buffered.
        setattr(sys, name, io.TextIOWrapper(log, stream.encoding, stream.errors, write_through=True))
