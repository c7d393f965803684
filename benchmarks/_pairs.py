"""Ways to do the same, timed in turn: the machine's moods hit all of them."""

import platform
import statistics
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

import click
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


def matching(works: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Give the works that have one of these texts in their names, all where there is none."""
    for text in texts:
        if not any(text in name for name in works):
            raise click.BadParameter(
                f"no work has {text!r} in its name; they are {'; '.join(works)}", param_hint="--work"
            )
    return [name for name in works if any(text in name for text in texts or [""])]


def show_ratio(title: str, times: list[tuple[float, float]], aim: str) -> None:
    """Print the median times and the ratio's minimum, median and maximum over the pairs."""
    ratios = sorted(first / second for first, second in times)
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{title}: {first:.2f} s against {second:.2f} s; ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}); aim {aim}",
        flush=True,
    )


def show_efficiency(title: str, times: list[tuple[float, float]], aim: float | None) -> None:
    """Print the ideal time as a part of the one that was taken."""
    found = sorted(best / taken for best, taken in times)
    print(
        f"{title}: efficiency {statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f}); aim {aim or 'none'}",
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
