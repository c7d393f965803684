"""`tritoncluster run JOB` and `tritoncluster compare JOB`."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tritoncluster.cli import EXIT_FAILED, EXIT_INTERRUPTED, output, terminal
from tritoncluster.cli.options import demo_option, job_options, run_options
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
    """

    def __init__(self, *, action: Callable[..., int], always_demo: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action, self.always_demo = action, always_demo
        self.names = [*JOBS] if always_demo else [*JOBS, ALL]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Give the jobs' names."""
        return self.names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Make the command of a job."""
        if cmd_name not in self.names:
            return None
        classes = [load(name) for name in (JOBS if cmd_name == ALL else [cmd_name])]
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
            params=[*options.values(), *([] if self.always_demo else [demo_option()]), *run_options()],
            help=classes[0].__doc__
            if len(classes) == 1
            else "Run all jobs, one after the other, and write one report.",
        )

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a command, or say which there are."""
        if args[0] not in self.names:
            ctx.fail(f"there is no job '{args[0]}'; the jobs are {', '.join(self.names)}")
        return super().resolve_command(ctx, args)


def _run(jobs: list[Job], *, output_given: str | None, as_json: bool, **shape: Any) -> int:
    for job in jobs:
        job.check()
    folder = output.choose_folder(output_given, jobs[0].name if len(jobs) == 1 else ALL)
    console = terminal.console(as_json=as_json)
    # Dask and scikit-learn take two seconds to import: not before the input is known to be good.
    from tritoncluster import record, report

    with terminal.connected(console, **shape) as client:
        records: list[record.Record] = []
        for job in jobs:
            with terminal.ProgressDisplay(console, job.name) as progress:
                records.append(record.measure(client, job, progress))
            if records[-1].result:
                console.print(f"{job.name}: {records[-1].result.headline} ({records[-1].seconds:.1f} s)")
            if records[-1].stopped:
                break
        if any(each.result for each in records):
            output.write(folder, record.to_json(records), lambda path: report.write(records, path))
            _tell(console, folder, as_json=as_json)
        return _status(folder, records[-1])


def _compare(jobs: list[Job], *, output_given: str | None, as_json: bool, **shape: Any) -> int:
    (job,) = jobs
    job.check()
    folder = output.choose_folder(output_given, f"compare-{job.name}")
    console = terminal.console(as_json=as_json)
    from tritoncluster import compare, report

    with terminal.connected(console, **shape) as client:
        with terminal.ProgressDisplay(console, f"compare {job.name}") as progress:
            try:
                comparison = compare.compare(client, job, progress)
            except Exception as error:  # noqa: BLE001 - told in one line; the rest is in a file
                return _failed(folder, f"compare {job.name}", error, "nothing is kept")
        console.print(terminal.comparison_table(comparison))
        console.print(comparison.verdict)
        output.write(folder, comparison.to_json(), lambda path: report.write_comparison(comparison, path))
        _tell(console, folder, as_json=as_json)
    return 0


def _tell(console: Console, folder: Path, *, as_json: bool) -> None:
    console.print(f"Report: {folder / output.REPORT}")
    if as_json:
        click.echo((folder / output.RESULT).read_text(encoding="utf-8"), nl=False)


def _status(folder: Path, last: Any) -> int:
    if last.stopped is None:
        return 0
    kept = f"what was finished is in {folder}" if last.result else "nothing of it was finished"
    if isinstance(last.stopped, KeyboardInterrupt):
        click.echo(f"tritoncluster: {last.job} was interrupted; {kept}", err=True)
        return EXIT_INTERRUPTED
    return _failed(folder, last.job, last.stopped, kept)


def _failed(folder: Path, job: str, error: BaseException, kept: str) -> int:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    details = output.write_traceback(folder, error)
    click.echo(f"tritoncluster: {job} failed: {reason}; {kept}; details are in {details}", err=True)
    return EXIT_FAILED


run = JobGroup(
    name="run",
    action=_run,
    always_demo=False,
    help="Run a job, or all of them, on the cluster and write result.json and report.html.",
)
compare = JobGroup(
    name="compare",
    action=_compare,
    always_demo=True,
    help="Do a job's work serially, with joblib's threads, with its processes and on the cluster, and compare.",
)
