"""What people see while work runs: bars in a terminal, a line now and then elsewhere."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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

from tritoncluster.quantities import memory

if TYPE_CHECKING:
    from distributed import Client

    from tritoncluster.compare import Comparison
    from tritoncluster.record import Worker
    from tritoncluster.scale import Scaling

#: Seconds between lines where bars can't be drawn.
LINE_EVERY = 10.0
#: In the environment: file that is to have how far the work is, and the seconds between two times.
PROGRESS_FILE, WRITE_EVERY = "TRITONCLUSTER_PROGRESS", 0.5


def console(*, as_json: bool = False) -> Console:
    """Give the console to tell people on: standard error when standard output is for JSON."""
    return Console(stderr=as_json, highlight=False, soft_wrap=True)


@contextmanager
def connected(
    console: Console, *, workers: int | None, threads_per_worker: int | None, must_be_usable: bool = True
) -> Iterator["Client"]:
    """Connect as `cluster.connect` does, and say to what."""
    import dask.config

    from tritoncluster import nodes
    from tritoncluster.cluster import connect

    # What Dask logs of a scheduler that went away, tracebacks too, reaches us as an error, and people as one line.
    for name in ("distributed.client", "distributed.batched"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    address = dask.config.get("scheduler-address", None)
    console.print(f"Connecting to {address}" if address else "Starting a cluster on this machine")
    with (
        _told_of_who_is_gone(console),
        connect(workers=workers, threads_per_worker=threads_per_worker, must_be_usable=must_be_usable) as client,
    ):
        with _scheduler_answers(client):
            known = nodes.workers(client)
        threads = sum(worker.threads for worker in known)
        where = "this machine" if client.cluster else nodes.scheduler_address(client)
        console.print(f"Cluster: {len(known)} workers, {threads} threads on {where}")
        if link := client.cluster and client.dashboard_link:
            console.print(f"Dashboard: {link}")
        yield client


class _Told(logging.Handler):
    """Prints what is logged, above the bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), markup=False)


@contextmanager
def _told_of_who_is_gone(console: Console) -> Iterator[None]:
    """Say when work waits for a scheduler or a machine that is gone; other programs have it in their log."""
    loggers = [
        logging.getLogger(f"tritoncluster.{name}") for name in ("balance.driver", "balance.reconnection", "scale")
    ]
    handler = _Told(console)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def described_workers(console: Console, client: "Client") -> list["Worker"]:
    """Describe the cluster's workers, and say which do not answer."""
    from tritoncluster.record import describe_workers
    from tritoncluster.report.text import worker as called
    from tritoncluster.versions import name_some

    with _scheduler_answers(client):
        workers = describe_workers(client)
    if silent := tuple(called(worker.name) for worker in workers if not worker.responding):
        does, them = ("does", "it") if len(silent) == 1 else ("do", "them")
        console.print(
            f"{name_some(silent)} {does} not answer: the work does not wait for {them}; tritoncluster doctor says more"
        )
    return workers


@contextmanager
def _scheduler_answers(client: "Client") -> Iterator[None]:
    from tritoncluster.errors import ClusterUnusableError
    from tritoncluster.nodes import reason, scheduler_address

    address = scheduler_address(client)
    try:
        yield
    except OSError as error:
        raise ClusterUnusableError(
            f"the scheduler at {address} no longer answers ({reason(error)}); see in its log and on its host whether "
            "it hangs, and restart it"
        ) from None


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


def scaling_table(scaling: "Scaling") -> Table:
    """Show the steps of a scaling, one a row; then each machine alone."""
    table = Table(title=f"The work of {scaling.job}, on more and more machines")
    table.add_column("machines")
    alone = scaling.one_machine
    to_the_fastest = ["to the fastest"] if alone else []
    for heading in ("workers", "threads", "memory", "seconds", "speed-up", *to_the_fastest, "efficiency"):
        table.add_column(heading, justify="right")
    rows = [(step, step.machines[-1].name) for step in scaling.steps]
    rows += [(step, f"{step.machines[-1].name} alone") for step in scaling.alone]
    for step, who in rows:
        table.add_row(
            f"{len(step.machines)}, up to {who}" if len(step.machines) > 1 else who,
            f"{sum(len(machine.workers) for machine in step.machines):,}",
            f"{step.threads:,}",
            memory(step.memory_bytes),
            f"{step.record.seconds:.2f}{' *' if step.disturbed else ''}",
            f"{scaling.steps[0].record.seconds / step.record.seconds:.2f}",
            *([f"{alone / step.record.seconds:.2f}"] if alone else []),
            "–" if step.efficiency is None else f"{step.efficiency:.0%}",
        )
    if any(step.disturbed for step in scaling.runs):
        table.caption = "* others used the cluster meanwhile, or a machine could not be reached for a while"
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
        self._file, self._written = os.environ.get(PROGRESS_FILE), float("-inf")

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
        if self._file:
            self._write(Path(self._file), stage, done, total)
        if self.console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(f"{self.title}: {stage}", total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        else:
            self._line(stage, done, total)

    def _write(self, file: Path, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._written < WRITE_EVERY:
            return
        self._written = now
        # Work goes on where a disk is full.
        with suppress(OSError):
            new = file.with_name(f"{file.name}.new")
            new.write_text(json.dumps({"stage": f"{self.title}: {stage}", "done": done, "total": total}))
            new.replace(file)

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = self._begun.setdefault(stage, now)
        if done < total and now - self._last_line < LINE_EVERY:
            return
        self._last_line = now
        left = f", about {(now - begun) / done * (total - done):.0f} s left" if 0 < done < total else ""
        self.console.print(f"{self.title}: {done:,} of {total:,} {stage}{left}")
