"""What time it is, where the clock is set: a small computer has none of its own, and servers can be wrong."""

import time

#: A small computer begins in 1970; what it notes before its clock was set, it notes of an unknown time.
PLAUSIBLE = 1_700_000_000.0


class Clock:
    """The clock of the wall, beside what it would say had nobody set it since this object was made.

    For how long something is kept goes by the one that keeps it longer: neither a clock that is a day ahead for a while
    nor one that is a day behind makes anything go early. Who starts anew believes the wall.
    """

    def __init__(self) -> None:
        self._begin()

    def earliest(self) -> float:
        """Give the earlier of the two, in seconds since 1970."""
        return min(self._both())

    def latest(self) -> float:
        """Give the later of the two, in seconds since 1970."""
        return max(self._both())

    def _begin(self) -> None:
        # The one that nobody sets, and that goes on while a laptop sleeps.
        self._wall, self._steady = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def _both(self) -> tuple[float, float]:
        now = time.time()
        if self._wall < PLAUSIBLE <= now:
            self._begin()
        return now, self._wall + time.clock_gettime(time.CLOCK_BOOTTIME) - self._steady
