"""What people see while work runs: bars in a terminal, a line now and then elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from distributed import Client

    from tritoncluster.compare import Comparison

#: Seconds between lines where bars can't be drawn.
LINE_EVERY = 10.0


def console(*, as_json: bool = False) -> Console:
    """Give the console to tell people on: standard error when standard output is for JSON."""
    return Console(stderr=as_json, highlight=False, soft_wrap=True)


@contextmanager
def connected(
    console: Console, *, workers: int | None, threads_per_worker: int | None, must_be_usable: bool = True
) -> Iterator["Client"]:
    """Connect as `cluster.connect` does, and say to what."""
    import dask.config

    from tritoncluster.cluster import connect

    # What it logs of a scheduler that went away reaches us as an error, and people as one line.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    address = dask.config.get("scheduler-address", None)
    console.print(f"Connecting to {address}" if address else "Starting a cluster on this machine")
    with connect(workers=workers, threads_per_worker=threads_per_worker, must_be_usable=must_be_usable) as client:
        info = client.scheduler_info(n_workers=-1)
        threads = sum(worker["nthreads"] for worker in info["workers"].values())
        where = "this machine" if client.cluster else info["address"]
        console.print(f"Cluster: {len(info['workers'])} workers, {threads} threads on {where}")
        if link := client.cluster and client.dashboard_link:
            console.print(f"Dashboard: {link}")
        yield client


def comparison_table(comparison: "Comparison") -> Table:
    """Show the ways of a comparison, one a row."""
    table = Table(title=f"The work of {comparison.job}, in different ways")
    table.add_column("way")
    for heading in ("seconds", "ratio to serial", "share run"):
        table.add_column(heading, justify="right")
    for way in comparison.ways:
        share = "all" if way.share == 1 else f"{way.share:.2%}, scaled"
        table.add_row(way.name, f"{way.seconds:.2f}", f"{comparison.ratio(way):.2f}", share)
    return table


class ProgressDisplay:
    """Shows a job's progress; it is the callable that a job wants (`tritoncluster.jobs.Progress`).

    Parameters
    ----------
    console
        Where to. Bars need a terminal; anything else gets lines.
    title
        What is running.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        if self.console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(f"{self.title}: {stage}", total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        else:
            self._line(stage, done, total)

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = self._begun.setdefault(stage, now)
        if done < total and now - self._last_line < LINE_EVERY:
            return
        self._last_line = now
        left = f", about {(now - begun) / done * (total - done):.0f} s left" if 0 < done < total else ""
        self.console.print(f"{self.title}: {done:,} of {total:,} {stage}{left}")
