"""`--detach`: a job is left to the cluster's jobs service, and has an ID."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from tritoncluster.cli import say
from tritoncluster.errors import InputError
from tritoncluster.jobs import Job
from tritoncluster.jobs.parameters import option_name
from tritoncluster.service.model import MOST_PRIORITY, MOST_RETRIES, Request

COMMANDLINE = click.core.ParameterSource.COMMANDLINE
#: The options that mean something only together with --detach.
NAMES = ("priority", "max_time", "retries")


def options() -> list[click.Parameter]:
    """Make the options of a command that can be left alone."""
    return [
        click.Option(
            ["--detach"],
            is_flag=True,
            help="Leave it to the cluster's jobs service, print its ID, and return; see 'tritoncluster jobs'.",
        ),
        click.Option(
            ["--priority"],
            type=click.IntRange(-MOST_PRIORITY, MOST_PRIORITY),
            help="With --detach: jobs with a higher one are first  [default 0]",
        ),
        click.Option(["--max-time"], metavar="TIME", help="With --detach: end it after this time, as 90m or 2h."),
        click.Option(
            ["--retries"],
            type=click.IntRange(0, MOST_RETRIES),
            help="With --detach: how often to try again when it fails  [default 0]",
        ),
    ]


def leave(
    given: Mapping[str, Any],
    unsuited: Mapping[str, Any],
    make: Callable[[], tuple[str, list[str], str, dict[str, bytes]]],
    *,
    as_json: bool = False,
) -> bool:
    """Submit a job if it is to be left alone.

    Parameters
    ----------
    given
        The values of `options`; None where one was not given.
    unsuited
        Options that make no sense with --detach -> their values; None where one was not given.
    make
        Gives kind, words, title and files of the request.
    as_json
        Print what is known of the job instead of its ID.

    Returns
    -------
    bool
        Whether it was. The job is on the disk of the service then, and its ID was printed.

    Raises
    ------
    InputError
        When options don't go together, or the service takes no job.
    """
    if not given["detach"]:
        for name in NAMES:
            if given[name] is not None:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for jobs that are left alone: add --detach, or leave it out")
        return False
    for option, value in unsuited.items():
        if value is not None:
            raise InputError(
                f"{option} does not go with --detach: leave it out; 'tritoncluster jobs fetch' brings results"
            )
    from tritoncluster.service.client import Jobs
    from tritoncluster.service.upload import pack

    max_time = seconds(given["max_time"])
    jobs = Jobs()
    kind, words, title, files = make()
    request = Request(kind, tuple(words), title, given["priority"] or 0, max_time, given["retries"] or 0)
    job = jobs.submit(str(uuid4()), pack(request, files), tell=say)
    if as_json:
        click.echo(json.dumps(job, indent=2, ensure_ascii=False))
    else:
        click.echo(job["id"])
        say(f"{job['id']} was accepted: see 'tritoncluster jobs show {job['id']}'")
    return True


def detachable(
    action: Callable[..., int], kind: str, own: Mapping[str, Callable[[Any], list[str]]]
) -> Callable[..., int]:
    """Make an action of a command with jobs that can leave them to the service instead.

    Parameters
    ----------
    action
        What it does.
    kind
        The command's name.
    own
        Its own options that go along -> what makes words of a value.
    """

    def act(
        jobs: list[Job], *, output_given: str | None, as_json: bool, workers: int | None,
        threads_per_worker: int | None, **others: Any,
    ) -> int:  # fmt: skip
        given = {name: others.pop(name) for name in ("detach", *NAMES)}
        for job in jobs if given["detach"] else []:
            job.check()
        unsuited = {"--output": output_given, "--workers": workers, "--threads-per-worker": threads_per_worker}
        for name, value in others.items():
            if name not in own:
                unsuited["--" + name.removesuffix("_given").replace("_", "-")] = value

        def make() -> tuple[str, list[str], str, dict[str, bytes]]:
            words = [word for name, in_words in own.items() for word in in_words(others[name])]
            return _request(kind, jobs, words)

        if leave(given, unsuited, make, as_json=as_json):
            return 0
        shape = {"workers": workers, "threads_per_worker": threads_per_worker}
        return action(jobs, output_given=output_given, as_json=as_json, **shape, **others)

    return act


def shares(weight: float | None) -> list[str]:
    """Give the options that go along: how a run shares the cluster, and for how long it waits for a scheduler."""
    from dask import config

    words = [] if weight is None else [f"--weight={weight:g}"]
    # Its value is in the configuration, whoever put it there.
    source = click.get_current_context().get_parameter_source("wait")
    return [*words, f"--wait={config.get('tritoncluster.wait')}s"] if source is COMMANDLINE else words


def _request(kind: str, jobs: list[Job], words: list[str]) -> tuple[str, list[str], str, dict[str, bytes]]:
    files = {}
    for job in jobs:
        for item in fields(job):  # type: ignore[arg-type]  # a protocol can't say that it is a dataclass
            value = getattr(job, item.name)
            # Other commands than `run` have other defaults; none can be given as a word.
            if value is None or (kind == "run" and value == item.default):
                continue
            if item.metadata.get("file"):
                path = Path(value)
                files[path.name], value = path.read_bytes(), path.name
            words.append(f"{option_name(item)}={value}")
    name = jobs[0].name if len(jobs) == 1 else "all"
    words = [name, *dict.fromkeys(words)]
    return kind, words, " ".join([kind, *words]), files


def script_request(
    program: Any, script: str, with_paths: tuple[Path, ...], arguments: tuple[str, ...], weight: float | None
) -> tuple[str, list[str], str, dict[str, bytes]]:
    """Give the request for a script, and the files that go with it: they are beside it there."""
    if script == "-":
        raise InputError("--detach sends a file: write the script into one, and give its path")
    name = Path(script).name
    files = {name: Path(script).read_bytes()}
    for unit in program.units.values():
        # What is installed there, too, is better than a copy of what is installed here.
        if unit.yields and unit.name not in {path.resolve().name for path in with_paths}:
            continue
        for path, content in unit.files.items():
            if files.setdefault(path, content) != content:
                raise InputError(f"{path} goes along twice, with different content; rename one")
    named = [word for path in with_paths for word in ("--with", path.resolve().name)]
    words = [*shares(weight), *named, "--", name, *arguments]
    return "submit", words, " ".join(["submit", name, *arguments]), files


def seconds(text: str | None) -> float | None:
    """Read a time, as in "90m".

    Raises
    ------
    InputError
        When it is none.
    """
    if text is None:
        return None
    from dask.utils import parse_timedelta

    try:
        found = float(parse_timedelta(text, default="s"))
    except (ValueError, KeyError, TypeError):
        found = -1.0
    if not 0 < found < float("inf"):
        raise InputError(f"--max-time must be a time, as 90m or 2h, not '{text}'")
    return found
