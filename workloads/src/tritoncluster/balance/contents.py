"""What calls are sent that is large: copies of it, as it was when it was sent, and how calls share them.

Two arguments are the same content when all of their bytes are the same: neither an object's identity nor its name
stands for what is in it. Comparing is cheap, some 10 GB a second; a digest would take thirty times as long.
"""

import ctypes
import os
import threading
import weakref
from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import numpy as np

#: What is smaller travels with each call: a reference to data on a worker costs about as much.
SHARED_BYTES = 10_000
#: Contents of several calls that are kept for later ones, in bytes; those that calls still wait for come on top.
KEPT_BYTES = 256 << 20
#: Contents with which a new one is compared where they look alike, and at how many places they are looked at for that.
CANDIDATES, PLACES = 4, 64
#: Looks of contents above which those of contents that are gone are cleared away.
CLEAR = 1000

_memcmp = ctypes.CDLL("msvcrt" if os.name == "nt" else None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int


class Content:
    """Bytes that calls are sent, as they were when the first of these calls was submitted.

    Calls that have not been answered hold it, and nobody else does for long.

    Attributes
    ----------
    data : bytes
        The bytes.
    calls : int
        Calls that were ever sent it.
    placements : dict of str to Any
        Where it is on workers; for who puts it there.
    """

    __slots__ = ("__weakref__", "_digest", "calls", "data", "placements")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._digest = b""
        self.calls = 0
        self.placements: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> bytes:
        """What stands for the bytes in other processes; made when it is asked for first."""
        if not self._digest:
            self._digest = blake2b(self.data, digest_size=16).digest()
        return self._digest


class Contents:
    """The contents of one or more runs. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Alike is what is as long and has the same bytes at some places.
        self._alike: dict[tuple[int, bytes], list[weakref.ref[Content]]] = {}
        self._clear_from = CLEAR
        self._kept: OrderedDict[Content, None] = OrderedDict()
        self._kept_bytes = 0

    def of(self, data: memoryview) -> Content:
        """Give the content that has these bytes, shape (n,), which is new if there is none."""
        looks = len(data), bytes(data[:: max(1, len(data) // PLACES)])
        with self._lock:
            alike = [content for ref in self._alike.get(looks, ()) if (content := ref()) is not None]
        for content in reversed(alike):
            if same_bytes(content.data, data):
                return content
        content = Content(bytes(data))
        with self._lock:
            self._alike[looks] = [weakref.ref(each) for each in (*alike[1 - CANDIDATES :], content)]
            if len(self._alike) > self._clear_from:
                self._alike = {key: refs for key, refs in self._alike.items() if any(ref() for ref in refs)}
                # Not again for each one while calls wait for many.
                self._clear_from = max(CLEAR, 2 * len(self._alike))
        return content

    def used(self, content: Content) -> None:
        """Note that one more call is sent a content; what several are sent is kept a while for later ones."""
        with self._lock:
            content.calls += 1
            if content in self._kept:
                self._kept.move_to_end(content)
            elif content.calls > 1:
                self._kept[content] = None
                self._kept_bytes += len(content)
                while self._kept_bytes > KEPT_BYTES:
                    dropped, _ = self._kept.popitem(last=False)
                    self._kept_bytes -= len(dropped)

    def release(self) -> None:
        """Keep nothing for later, here or on workers."""
        with self._lock:
            self._kept.clear()
            self._kept_bytes = 0
            for refs in self._alike.values():
                for content in filter(None, [ref() for ref in refs]):
                    content.placements.clear()


def same_bytes(one: bytes, other: memoryview) -> bool:
    """Compare contiguous memory."""
    return len(one) == other.nbytes and not _memcmp(_address(one), _address(other), len(one))


def _address(data: bytes | memoryview) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)
