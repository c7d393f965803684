"""`tritoncluster jobs`: what the cluster's jobs service has."""

import json
import sys
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from tritoncluster.cli import EXIT_FAILED, EXIT_INTERRUPTED, say, terminal
from tritoncluster.errors import InputError
from tritoncluster.quantities import seconds
from tritoncluster.service.client import Jobs
from tritoncluster.service.model import ID, State

#: Seconds between looks at a job that is waited for.
LOOK = 0.5
COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "cancelled": "yellow"}


def _known(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Take IDs as people type them."""
    found = [str(each).strip().lower() for each in ([value] if isinstance(value, str) else value)]
    for each in found:
        if not ID.fullmatch(each):
            raise click.BadParameter(f"'{each}' is no job's ID; 'tritoncluster jobs' lists them", ctx, param)
    return found[0] if isinstance(value, str) else found


as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output."
)
id_argument = click.argument("id", callback=_known)


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def jobs(context: click.Context, *, as_json: bool) -> None:
    """See to the jobs that the cluster runs by itself, as 'tritoncluster run JOB --detach' leaves them to it.

    Without a command, lists them.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_jobs, as_json=as_json)


@jobs.command("list")
@as_json_option
def list_jobs(*, as_json: bool) -> None:
    """List the jobs: what runs, what waits, what has ended."""
    answer = Jobs().ask("GET").json()
    if as_json:
        _print(answer["jobs"])
        return
    console = terminal.console()
    if not answer["jobs"]:
        console.print("No jobs. 'tritoncluster run forest --detach' makes one.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("ID", "who", "what", "state", "progress", "since"):
        table.add_column(heading, overflow="fold", ratio=1 if heading == "what" else None)
    for job in answer["jobs"]:
        colour = COLOURS.get(job["state"], "default")
        state = f"waiting, place {job['place']}" if job["state"] == State.WAITING else job["state"]
        cells = (job["id"], job["who"], job["title"])
        since = seconds(max(0.0, answer["now"] - (job["ended"] or job["started"] or job["arrived"])))
        table.add_row(
            *map(escape, cells),
            f"[{colour}]{state}[/]",
            escape(_progress(job)),
            f"{since} ago" if job["ended"] else since,
        )
    # What is not a terminal has room for all of it.
    if not console.is_terminal:
        console.width = 1000
    console.print(table, soft_wrap=False)


@jobs.command()
@id_argument
@as_json_option
def show(id: str, *, as_json: bool) -> None:  # noqa: A002
    """Show all that is known of a job."""
    job = Jobs().ask("GET", f"/{id}").json()
    if as_json:
        _print(job)
        return
    lines = {
        "what": job["title"],
        "who": job["who"],
        "state": job["state"],
        "why": job["why"],
        "progress": _progress(job),
        "exit status": "" if job["exit_status"] is None else str(job["exit_status"]),
        "accepted": _when(job["arrived"]),
        "started": _when(job["started"]),
        "ended": _when(job["ended"]),
        "attempts": f"{job['attempts']} of {job['retries'] + 1}" if job["attempts"] else "",
        "priority": str(job["priority"]),
        "max time": "" if job["max_time"] is None else seconds(job["max_time"]),
    }
    for name, content in lines.items():
        if content:
            click.echo(f"{name + ':':13}{_plain(content)}")


@jobs.command()
@id_argument
def why(id: str) -> None:  # noqa: A002
    """Say in one line what a job waits for, or why it is as it is."""
    click.echo(_plain(Jobs().ask("GET", f"/{id}").json()["why"]))


@jobs.command()
@id_argument
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
def logs(id: str, *, follow: bool) -> None:  # noqa: A002
    """Print a job's log."""
    service, place = Jobs(), 0
    while True:
        path = f"/{id}/log?from={place}"
        answer = service.insist("GET", path, tell=say) if follow else service.ask("GET", path)
        place = int(answer.headers["x-log-next"])
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()
        if answer.content:
            continue
        if not follow or State(answer.headers["x-job-state"]).ended:
            return
        time.sleep(LOOK)


@jobs.command()
@id_argument
@as_json_option
def wait(id: str, *, as_json: bool) -> int:  # noqa: A002
    """Wait for a job's end, and exit as it did."""
    job = _wait(Jobs(), id)
    if as_json:
        _print(job)
    else:
        click.echo(_plain(f"{id}: {job['why']}"))
    match State(job["state"]):
        case State.FINISHED:
            return 0
        case State.CANCELLED:
            return EXIT_INTERRUPTED
    return job["exit_status"] or EXIT_FAILED


def _wait(service: Jobs, id: str) -> dict[str, Any]:  # noqa: A002
    while True:
        job: dict[str, Any] = service.insist("GET", f"/{id}", tell=say).json()
        if State(job["state"]).ended:
            return job
        time.sleep(LOOK)


@jobs.command()
@id_argument
@click.option("--output", metavar="DIR", help="Folder for what the job has; results/ID if not given.")
def fetch(id: str, output: str | None) -> None:  # noqa: A002
    """Bring a job's folder: result.json, report.html, log.txt, its journal, and what a script wrote.

    A job that runs is brought as it is at this moment.
    """
    folder = Path(output) if output else Path("results") / id
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {folder}: there is something already; name another folder")
    with Jobs().folder(id) as response:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = _extract(response, folder)
        except OSError as error:
            raise InputError(f"--output {folder} can't be written: {error.strerror}; name another folder") from None
    shown = [*map(_plain, names[:10]), *(["…"] if len(names) > 10 else [])]
    click.echo(f"{len(names)} files in {folder}: {', '.join(shown)}")


def _extract(stream: Any, folder: Path) -> list[str]:
    names = []
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if path.is_absolute() or ".." in path.parts or content is None:
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    while block := content.read(2**20):
                        file.write(block)
                names.append(str(path))
    except tarfile.TarError as error:
        raise InputError(f"not all of it came ({error}); fetch it again into another folder") from None
    return names


@jobs.command()
@id_argument
def cancel(id: str) -> None:  # noqa: A002
    """End a job, or take it out of the queue; what it has finished is kept."""
    Jobs().ask("POST", f"/{id}/cancel", b"")
    click.echo(f"{id} is cancelled")


@jobs.command()
@id_argument
def retry(id: str) -> None:  # noqa: A002
    """Let a job that failed or was cancelled run again; what it had finished is not computed again."""
    Jobs().ask("POST", f"/{id}/retry", b"")
    click.echo(f"{id} waits again")


@jobs.command()
@click.argument("ids", callback=_known, nargs=-1, required=True, metavar="ID...")
def remove(ids: list[str]) -> None:
    """Remove jobs that are over, with all that is kept of them."""
    service = Jobs()
    for id_ in ids:
        service.ask("DELETE", f"/{id_}")
        click.echo(f"{id_} is removed")


def _progress(job: dict[str, Any]) -> str:
    far = job["progress"]
    return f"{far['done']:,} of {far['total']:,} {far['stage']}" if far else ""


def _when(moment: float | None) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def _plain(text: str) -> str:
    """Leave out what would change the terminal: the text may be a script's."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _print(content: Any) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
