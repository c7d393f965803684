"""Two ways to do the same, timed in turn: the machine's moods hit both."""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

from joblib import cpu_count


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def pairs(ours: Callable[[], object], theirs: Callable[[], object], repetitions: int) -> list[tuple[float, float]]:
    """Time both in turn, after one call of each that does not count."""
    ours()
    theirs()
    return [(seconds(ours), seconds(theirs)) for _ in range(repetitions)]


def show_ratio(title: str, times: list[tuple[float, float]], aim: str) -> None:
    """Print the median times and the ratio's minimum, median and maximum over the pairs."""
    ratios = sorted(first / second for first, second in times)
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{title}: {first:.2f} s against {second:.2f} s; ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}); aim {aim}",
        flush=True,
    )


def show_seconds(title: str, times: list[float], aim: str) -> None:
    """Print median, minimum and maximum."""
    print(
        f"{title}: {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f}); aim {aim}",
        flush=True,
    )


def show_machine() -> None:
    """Print what the figures are of."""
    names = ("scikit-learn", "numpy", "dask", "joblib")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}", flush=True)
