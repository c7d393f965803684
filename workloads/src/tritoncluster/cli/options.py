"""Command-line options: those that are made from the parameters of jobs, and those that commands share."""

import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from typing import Any

import click

from tritoncluster.jobs.parameters import option_name
from tritoncluster.names import in_client_name
from tritoncluster.weight import LEAST_WEIGHT, MOST_WEIGHT, WEIGHT


def job_options(job: type[Any], *, demo: bool) -> list[click.Option]:
    """Make an option of each parameter of a job; its value is None where none is given.

    Parameters
    ----------
    job
        The job's dataclass.
    demo
        Whether the help shows the values for a demonstration as the defaults.
    """
    hints = typing.get_type_hints(job)
    return [_option(item, hints[item.name], demo=demo) for item in fields(job)]


def _option(item: Field[Any], hint: Any, *, demo: bool) -> click.Option:
    # "int | None" is an int that need not be given.
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    default = item.metadata["demo"] if demo and item.metadata["demo"] is not MISSING else item.default
    notes = [item.metadata["unit"], "" if default is None else f"default {default:,}"]
    brackets = f"  [{'; '.join(filter(None, notes))}]" if any(notes) else ""
    return click.Option(
        [option_name(item)],
        type=next(kind for kind in kinds if kind is not type(None)),
        help=item.metadata["help"] + brackets,
    )


def demo_option() -> click.Option:
    """Make the option that turns the defaults into those of a demonstration."""
    return click.Option(
        ["--demo"], is_flag=True, help="Sizes for a demonstration of about a minute, where none is given."
    )


class Wait(click.ParamType[float]):
    """A duration to wait for a lost scheduler, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ARG002
        """Read it; raises InputError where it is none."""
        from tritoncluster.balance.reconnection import parse_wait

        return parse_wait(value)


def wait_option() -> click.Option:
    """Make the option that says how long to wait for a lost scheduler."""
    return click.Option(
        ["--wait"],
        type=Wait(),
        metavar="DURATION",
        expose_value=False,
        callback=_configure_wait,
        help="How long to wait for a scheduler that goes away, as in 90s; the work then goes on.  [default 10 min]",
    )


def _configure_wait(_ctx: click.Context, _option: click.Parameter, seconds: float | None) -> None:
    if seconds is not None:
        import dask.config

        dask.config.set({"tritoncluster.wait": seconds})


def weight_option() -> click.Option:
    """Make the option for the share that a run gets of workers that others use, too."""
    return click.Option(
        ["--weight"],
        type=click.FloatRange(LEAST_WEIGHT, MOST_WEIGHT),
        help="Share of the workers where others use them, too, relative to theirs: with 2, twice as much as another "
        "run.  [default 1]",
    )


@contextmanager
def weighted(weight: float | None) -> Iterator[None]:
    """Let the runs inside have this weight, where one is given."""
    # Dask takes a moment to import.
    import dask.config

    with dask.config.set({} if weight is None else {WEIGHT: weight}):
        yield


@contextmanager
def named(what: str) -> Iterator[None]:
    """Have the scheduler's log say what connects to it from inside, unless that has been said before."""
    # Dask takes a moment to import.
    import dask.config

    name = dask.config.get("client-name", None) or in_client_name(what)
    with dask.config.set({"client-name": name}):
        yield


def run_options() -> list[click.Parameter]:
    """Make what all commands have that run work and write results."""
    return [
        click.Option(["--workers"], type=click.IntRange(min=1), help="Worker processes of the embedded cluster."),
        click.Option(["--threads-per-worker"], type=click.IntRange(min=1), help="Threads of each of them."),
        click.Option(
            ["--output", "output_given"],
            metavar="DIR",
            help="Folder for result.json and report.html; results/JOB-TIME if not given.",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Print the content of result.json, and nothing else, on standard output.",
        ),
    ]
