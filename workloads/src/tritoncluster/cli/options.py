"""Command-line options: those that are made from the parameters of jobs, and those that commands share."""

import types
import typing
from dataclasses import MISSING, Field, fields
from typing import Any

import click

from tritoncluster.jobs.parameters import option_name


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
