"""The scheduler's side of the table of speeds: what others left, what was learned here, and what is too old."""

from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from tritoncluster.known_speeds import ANY_WORK, METADATA

#: Seconds after which what nobody wrote again is forgotten; machines are the same the next day, and not for ever.
EXPIRES = 24 * 3600.0
#: Works that are remembered, those written last.
MOST_WORKS = 1000


class Table:
    """The table in a scheduler's metadata.

    Parameters
    ----------
    metadata
        Of the scheduler; clients write into it.
    clock
        Gives seconds; that of clients may be wrong, so no times are in the table.
    """

    def __init__(self, metadata: dict[Any, Any], clock: Callable[[], float] = monotonic) -> None:
        self._metadata, self._clock = metadata, clock
        #: Work -> its speeds, as they were seen last, and when they were new; the oldest first.
        self._seen: dict[str, tuple[Any, float]] = {}

    @property
    def _works(self) -> dict[str, Any]:
        works = self._metadata.setdefault(METADATA, {})
        return works if isinstance(works, dict) else {}

    def new(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Give the works that were written since the last time, with speeds by name; drop those that are too old."""
        now, works = self._clock(), self._works
        for work in self._seen.keys() - works.keys():
            del self._seen[work]
        for work, speeds in list(works.items()):
            seen = self._seen.get(work)
            if seen and seen[0] is speeds:
                continue
            self._seen.pop(work, None)
            self._seen[work] = speeds, now
            if work != ANY_WORK and isinstance(speeds, dict):
                yield work, {str(name): speed for name, speed in speeds.items() if _is_speed(speed)}
        for work, (_, written) in list(self._seen.items()):
            if now - written <= EXPIRES and len(self._seen) <= MOST_WORKS:
                break
            del self._seen[work]
            works.pop(work, None)

    def leave(self, speeds: Mapping[str, float]) -> None:
        """Write what is known of tasks of any kind."""
        if speeds:
            self._works[ANY_WORK] = dict(speeds)


def _is_speed(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")
