"""`tritoncluster scale JOB`."""

from functools import partial
from typing import Any

import click

from tritoncluster.cli import detach, terminal
from tritoncluster.cli.run import JobGroup, measure
from tritoncluster.errors import InputError
from tritoncluster.jobs import Job


def _scale(jobs: list[Job], *, steps: str | None, alone: bool, **others: Any) -> int:
    (job,) = jobs
    job.check()
    counts = parse_steps(steps)
    from tritoncluster import report
    from tritoncluster.scale import scale as run_steps

    work = partial(run_steps, steps=counts, alone=alone)
    return measure("scale", job, work, terminal.scaling_table, report.write_scaling, **others)


def parse_steps(given: str | None) -> list[int]:
    """Read numbers of machines, as in "1,2,4"; none for None.

    Raises
    ------
    InputError
        When it is anything else.
    """
    words = [] if given is None else [word.strip() for word in given.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise InputError(f"--steps must be numbers of machines with commas between them, as in 1,2,4, not '{given}'")
    return [int(word) for word in words]


scale = JobGroup(
    name="scale",
    action=detach.detachable(
        _scale,
        "scale",
        {
            "steps": lambda given: [f"--steps={given}"] if given is not None and parse_steps(given) else [],
            "alone": lambda given: ["--alone"] if given else [],
        },
    ),
    always_demo=True,
    options=lambda: [
        *detach.options(),
        click.Option(["--steps"], metavar="N,N,…", help="Numbers of machines; one more at each step if not given."),
        click.Option(["--alone"], is_flag=True, help="Let each machine do the work by itself, too."),
    ],
    help="Run a job on growing sets of the cluster's machines, the slowest first, and say what each brings.",
)
