"""A job's program: the command that runs it, its environment, and what it says of its end."""

import os
import sys
from pathlib import Path

from tritoncluster.names import in_client_name
from tritoncluster.service import folders
from tritoncluster.service.model import Job


def command(job: Job, folder: Path) -> list[str]:
    """Give the command that runs a job, or goes on with it: everything that it finished is in its folder."""
    program = [sys.executable, "-m", "tritoncluster", job.request.kind]
    resume = ["--resume", str(folder)]
    name, *options = job.request.words
    match job.request.kind:
        case "run":
            return [*program, name, *resume, *options]
        case "scale":
            # What it measures is not to come from a journal: it begins anew.
            return [*program, name, "--output", str(folder), *options]
    return [*program, *resume, *job.request.words]


def environment(job: Job, folder: Path) -> dict[str, str]:
    """Give what it finds there beside what this process has."""
    temporary = str(folder / folders.TEMPORARY)
    return os.environ | {
        "TMPDIR": temporary,
        "DASK_TEMPORARY_DIRECTORY": temporary,
        "TRITONCLUSTER_PROGRESS": str(folder / folders.PROGRESS),
        "PYTHONUNBUFFERED": "1",
        # The scheduler's log has it: by its certificate, each is the service's.
        "DASK_CLIENT_NAME": f"job-{job.id}-{in_client_name(job.who)}",
    }


def reason(log: Path, status: int) -> str:
    """Say why a program failed: its last line, when that is ours."""
    prefix = "tritoncluster: "
    # The command that goes on is this service's to give.
    last = last_line(log).partition("; go on with '")[0]
    return last.removeprefix(prefix) if last.startswith(prefix) else f"exit status {status}: {last}".rstrip(": ")


def last_line(log: Path, most: int = 300) -> str:
    """Give the last line of a log that is not the service's own."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:most] for line in reversed(lines) if line.strip() and line[:6] != "jobs: "), "")
