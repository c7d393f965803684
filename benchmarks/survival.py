"""What it costs to keep what is finished: the jobs with and without a journal, in turn on one embedded cluster.

Beside the seconds stands the processor time of this process and of its workers, and the part of it that goes into
keeping, which others on this machine disturb least. A second round is on a disk whose every fsync takes 50 ms, as a bad
card's.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from _pairs import show_machine
from distributed import Client

from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.fingerprints import Notes
from tritoncluster.balance.kept import Keeper
from tritoncluster.cluster import connect
from tritoncluster.jobs import Job
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.journal import JOURNAL, Journal, in_use
from tritoncluster.journal.store import Store

#: Seconds of an fsync of a bad card.
SLOW = 0.05


def jobs(part: float) -> list[Job]:
    """Give the poster's jobs, or a part of each; of the grid search a tenth, which takes as long as the others."""
    return [
        Forest(trees=int(8000 * part)),
        GridSearch(samples=int(2000 * part)),
        AsianOption(paths=int(1_000_000 * part)),
    ]


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Give a call's seconds, and the processor time of this process and its children in it."""
    begin, used = time.perf_counter(), processor_time()
    work()
    return time.perf_counter() - begin, processor_time() - used


def processor_time() -> float:
    """Give what this process and its children have used so far, in seconds."""
    me = psutil.Process()
    times = [each.cpu_times() for each in (me, *me.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextmanager
def journalled() -> Iterator[list[int]]:
    """Keep what is finished inside; the list gets the bytes of the file."""
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / JOURNAL
        journal = Journal(path, tell=lambda _line: None, own_code=True)
        with in_use(journal):
            yield sizes
        journal.close(complete=True)
        sizes.append(path.stat().st_size)


#: What is done for the sake of a journal alone.
KEEPING = [
    (Keeper, ("keys", "find", "keep")),
    (Packer, ("_identity",)),
    (Notes, ("take",)),
    (Journal, ("__init__", "begin", "close")),
    (Store, ("_write",)),
]


@contextmanager
def time_of_keeping() -> Iterator[list[float]]:
    """Measure the processor time of what is done for the sake of a journal; the list gets the seconds."""
    seconds: list[float] = []
    before = [(kind, name, getattr(kind, name)) for kind, names in KEEPING for name in names]

    def timed(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds.append(time.thread_time() - begin)

        return call

    for kind, name, function in before:
        setattr(kind, name, timed(function))
    try:
        yield seconds
    finally:
        for kind, name, function in before:
            setattr(kind, name, function)


@contextmanager
def slow_disk() -> Iterator[None]:
    """Let each fsync of a journal take `SLOW` seconds more."""
    commit = Store._commit  # noqa: SLF001

    def slow(self: Store, rows: Any) -> None:
        commit(self, rows)
        time.sleep(SLOW)

    Store._commit = slow  # noqa: SLF001 - the only place that commits
    try:
        yield
    finally:
        Store._commit = commit  # noqa: SLF001


def compare(client: Client, job: Job, repetitions: int, title: str, aim: float) -> None:
    """Print the ratios of a job with a journal to the same without one."""
    sizes: list[int] = []

    own: list[float] = []

    def kept() -> None:
        with time_of_keeping() as seconds, journalled() as found:
            job.run(client)
        sizes.extend(found)
        own.append(sum(seconds))

    job.run(client)
    pairs = [(measured(kept), measured(lambda: job.run(client))) for _ in range(repetitions)]
    parts = sorted(each / used for each, ((_, used), _) in zip(own, pairs, strict=True))
    print(
        f"{job.name}, {title}: part of the processor time that goes into keeping: {statistics.median(parts):.2%} "
        f"({parts[0]:.2%} to {parts[-1]:.2%}); aim at most {aim - 1:.0%}",
        flush=True,
    )
    for what, number in (("seconds", 0), ("processor time", 1)):
        ratios = sorted(with_it[number] / without[number] for with_it, without in pairs)
        print(
            f"{job.name}, {title}: {what} with a journal against without: {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}); aim at most {aim}",
            flush=True,
        )
    print(f"{job.name}, {title}: journal of {max(sizes) / 1e6:.1f} MB", flush=True)


def main() -> None:
    """Compare all jobs, on this disk and on a slow one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--part", type=float, default=1.0, help="of the jobs' sizes")
    parser.add_argument("--only", nargs="*", help="names of jobs")
    given = parser.parse_args()
    show_machine()
    with connect() as client:
        for job in jobs(given.part):
            if given.only and job.name not in given.only:
                continue
            compare(client, job, given.repetitions, "this disk", 1.01)
            with slow_disk():
                compare(client, job, given.repetitions, f"fsync of {SLOW * 1000:.0f} ms", 1.03)


if __name__ == "__main__":
    main()
