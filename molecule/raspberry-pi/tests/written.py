"""A card as a power cut leaves it: what was written to it until then, of the last pieces maybe some and others not.

The log is that of the kernel's dm-log-writes, which QEMU writes as well: a head of one sector, and for each write a
sector that describes it, and its data (Documentation/admin-guide/device-mapper/log-writes.rst).
"""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4


class Write(NamedTuple):
    """Bytes that were written at a place; nothing that came later was begun before a barrier's end."""

    offset: int
    data: bytes
    is_barrier: bool


def writes(log: Path) -> list[Write]:
    """Give what was written, in its order."""
    content = log.read_bytes()
    magic, _version, number, size = struct.unpack_from("<QQQI", content)
    if (magic, size) != (MAGIC, SECTOR):
        raise ValueError(f"{log} is no log of writes")
    found, at = [], SECTOR
    for _ in range(number):
        sector, sectors, flags, _length = struct.unpack_from("<QQQQ", content, at)
        at += SECTOR
        if flags & DISCARD:
            raise ValueError(f"{log} has a discard, which nothing here asks for")
        data = content[at : at + sectors * SECTOR]
        at += len(data)
        found.append(Write(sector * SECTOR, data, bool(flags & FLUSH)))
    return found


def cuts(written: list[Write]) -> Iterator[list[Write]]:
    """Give what is on the card after each cut that may be.

    What is before the last barrier is there, and of what follows any part: all subsets of up to eight writes, and of
    more each beginning, each beginning without one, and each write alone.
    """
    start = 0
    for end in [*(number + 1 for number, write in enumerate(written) if write.is_barrier), len(written)]:
        pending = written[start:end]
        yield from (written[:start] + list(part) for part in parts(pending))
        start = end


def parts(pending: list[Write]) -> Iterator[tuple[Write, ...]]:
    """Give what may be there of writes that no barrier parts."""
    if len(pending) <= 8:
        for number in range(len(pending) + 1):
            yield from itertools.combinations(pending, number)
        return
    for end in range(len(pending) + 1):
        yield tuple(pending[:end])
        yield from (tuple(pending[:without] + pending[without + 1 : end]) for without in range(end))
    yield from ((write,) for write in pending)
