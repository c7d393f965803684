"""`tritoncluster run JOB` and `tritoncluster compare JOB`."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tritoncluster.cli import EXIT_FAILED, EXIT_INTERRUPTED, detach, interrupts, output, resume, say, terminal
from tritoncluster.cli.options import demo_option, job_options, named, run_options, wait_option, weight_option, weighted
from tritoncluster.errors import InputError
from tritoncluster.jobs import JOBS, Job, load
from tritoncluster.jobs.parameters import demo_values

ALL = "all"


class JobGroup(click.Group):
    """A group with one command a job, made from the job's parameters.

    Parameters
    ----------
    action
        What the commands do: takes the jobs, and the values of `run_options`; gives the exit status.
    always_demo
        Whether the sizes of a demonstration are the defaults. Otherwise there is an option for them, and a command for
        all jobs together.
    options
        Makes what this group's commands have besides.
    """

    def __init__(
        self,
        *,
        action: Callable[..., int],
        always_demo: bool,
        options: Callable[[], list[click.Parameter]] = list,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action, self.always_demo, self.options = action, always_demo, options

    @property
    def names(self) -> list[str]:
        """What can be run."""
        return [*JOBS] if self.always_demo else [*JOBS, ALL]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Give the jobs' names."""
        return self.names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Make the command of a job."""
        if cmd_name not in self.names:
            return None
        classes: list[Any] = [load(name) for name in (JOBS if cmd_name == ALL else [cmd_name])]
        # Jobs that have a parameter in common, as the seed, share the option.
        options = {option.name: option for cls in classes for option in job_options(cls, demo=self.always_demo)}

        def run(*, demo: bool = self.always_demo, **values: Any) -> int:
            jobs = []
            for cls in classes:
                given = {item.name: values[item.name] for item in fields(cls) if values[item.name] is not None}
                jobs.append(cls(**((demo_values(cls) if demo else {}) | given)))
            return self.action(jobs, **{name: value for name, value in values.items() if name not in options})

        return click.Command(
            cmd_name,
            callback=run,
            params=[
                *options.values(),
                *([] if self.always_demo else [demo_option()]),
                *self.options(),
                *run_options(),
            ],
            help=classes[0].__doc__
            if len(classes) == 1
            else "Run all jobs, one after the other, and write one report.",
        )

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a command, or say which there are."""
        if args[0] not in self.names:
            ctx.fail(f"there is no job '{args[0]}'; the jobs are {', '.join(self.names)}")
        return super().resolve_command(ctx, args)


def _run(
    jobs: list[Job],
    *,
    output_given: str | None,
    resume_given: str | None,
    journal_size: int | None,
    as_json: bool,
    weight: float | None,
    **shape: Any,
) -> int:
    for job in jobs:
        job.check()
    if resume_given and output_given:
        raise InputError("give either --output, for a new run, or --resume, to go on with one; not both")
    if resume_given:
        folder = resume.folder_of(resume_given, jobs)
    else:
        folder = output.choose_folder(output_given, jobs[0].name if len(jobs) == 1 else ALL)
    words = resume.words(click.get_current_context(), folder, resumed=bool(resume_given))
    console = terminal.console(as_json=as_json)
    # Dask and scikit-learn take two seconds to import: not before the input is known to be good.
    from tritoncluster import record, report

    with (
        weighted(weight),
        named(f"run-{jobs[0].name if len(jobs) == 1 else ALL}"),
        resume.resumable(folder, words, console.print, size=journal_size, own_code=True) as resumable,
        terminal.connected(console, **shape) as client,
    ):
        records: list[record.Record] = []
        workers = terminal.described_workers(console, client)
        for job in jobs:
            with terminal.ProgressDisplay(console, job.name) as progress:
                records.append(record.measure(client, job, progress, workers=workers))
            if records[-1].result:
                console.print(f"{job.name}: {records[-1].result.headline} ({records[-1].seconds:.1f} s)")
            if records[-1].stopped:
                break
        resumable.end(complete=records[-1].stopped is None)
        if any(each.result for each in records):
            try:
                with interrupts.uninterrupted():
                    output.write(folder, record.to_json(records), lambda path: report.write(records, path))
            except OSError as error:
                say(f"{_not_written(folder, error)}{resumable.advice}")
                return EXIT_FAILED
            _tell(console, folder, as_json=as_json)
        last = records[-1]
        return _status(folder, last.job, last.stopped, kept=last.result is not None, advice=resumable.advice)


def _compare(jobs: list[Job], **others: Any) -> int:
    (job,) = jobs
    job.check()
    from tritoncluster import compare, report

    return measure("compare", job, compare.compare, terminal.comparison_table, report.write_comparison, **others)


def measure(
    verb: str,
    job: Job,
    work: Callable[..., Any],
    table: Callable[[Any], Table],
    write_page: Callable[[Any, Path], None],
    *,
    output_given: str | None,
    as_json: bool,
    **shape: Any,
) -> int:
    """Measure how a job does in several ways, and show it as a table and a page.

    Parameters
    ----------
    verb, job
        What is done with what.
    work
        Does it: takes a client, the job, `progress` and `workers`.
    table, write_page
        Show what `work` gives: as a table, and as a page at a path.
    output_given, as_json, shape
        The values of `run_options`.

    Returns
    -------
    int
        The command's exit status.
    """
    folder = output.choose_folder(output_given, f"{verb}-{job.name}")
    console = terminal.console(as_json=as_json)
    with interrupts.interrupted_once(), terminal.connected(console, **shape) as client:
        workers = terminal.described_workers(console, client)
        with terminal.ProgressDisplay(console, f"{verb} {job.name}") as progress:
            try:
                found = work(client, job, progress=progress, workers=workers)
            except InputError:
                raise
            except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - told in one line; the rest is in a file
                return _status(folder, f"{verb} {job.name}", error, kept=False)
        with interrupts.uninterrupted():
            console.print(table(found))
            console.print(found.verdict)
            try:
                output.write(folder, found.to_json(), lambda path: write_page(found, path))
            except OSError as error:
                say(_not_written(folder, error))
                return EXIT_FAILED
            _tell(console, folder, as_json=as_json)
            return _status(folder, f"{verb} {job.name}", found.stopped, kept=True)


def _tell(console: Console, folder: Path, *, as_json: bool) -> None:
    """Say where the report is, or print the result."""
    console.print(f"Report: {folder / output.REPORT}")
    if as_json:
        click.echo((folder / output.RESULT).read_text(encoding="utf-8"), nl=False)


def _not_written(folder: Path, error: OSError) -> str:
    result = folder / output.RESULT
    what, rest = ("report", f", the result is in {result}") if result.exists() else ("result", "")
    return f"the {what} can't be written to {folder}: {error.strerror}; make room there{rest}"


def _status(folder: Path, what: str, stopped: BaseException | None, *, kept: bool, advice: str = "") -> int:
    """Say in one line why something stopped and what to do, keep a traceback there, and give the exit status."""
    if stopped is None:
        return 0
    rest = f"what was finished is in {folder}" if kept else "nothing of it was finished"
    if isinstance(stopped, KeyboardInterrupt):
        say(f"{what} was interrupted; {rest}{advice}")
        return EXIT_INTERRUPTED
    reason = " ".join(f"{stopped}".split()) or type(stopped).__name__
    details = output.write_traceback(folder, stopped)
    say(f"{what} failed: {reason}; {rest}; details are in {details}{advice}")
    return EXIT_FAILED


run = JobGroup(
    name="run",
    action=detach.detachable(_run, "run", {"weight": detach.shares}),
    always_demo=False,
    options=lambda: [*detach.options(), weight_option(), wait_option(), *resume.options()],
    help="Run a job, or all of them, on the cluster and write result.json and report.html.",
)
compare = JobGroup(
    name="compare",
    action=_compare,
    always_demo=True,
    help="Do a job's work serially, with joblib's threads, with its processes and on the cluster, and compare.",
)
