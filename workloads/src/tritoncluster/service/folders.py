"""The service's files: the queue, and a folder for each job, which is what is fetched, resumed, kept and removed."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritoncluster.errors import InputError
from tritoncluster.service.model import ID

LOG, PROGRESS, TEMPORARY, RAN = "log.txt", "progress.json", "tmp", "ran"
#: What pages and programs may ask for by name.
SHOWN = {"report.html": "text/html", "result.json": "application/json", LOG: "text/plain"}
#: What a fetched folder does not have: it means nothing elsewhere.
INTERNAL = (PROGRESS, TEMPORARY)


class Folders:
    """Where things are below the service's own folder.

    Parameters
    ----------
    base
        That folder; it is there. It is this process's until `close`.

    Raises
    ------
    InputError
        When another process has it, or it can't be written.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.incoming, self.jobs = base, base / "incoming", base / "jobs"
        self.database = base / "jobs.sqlite"
        try:
            for folder in (self.incoming, self.jobs):
                folder.mkdir(exist_ok=True)
            self._lock = os.open(base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another jobs service has {base}; end that one, or name another folder") from None
        except OSError as error:
            raise InputError(f"{base} can't be written: {error.strerror}; name another folder") from None

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def of(self, id: str) -> Path:  # noqa: A002
        """Give a job's folder."""
        if not ID.fullmatch(id):
            raise ValueError(f"{id!r} is no job's ID")
        return self.jobs / id

    def sweep(self, known: Iterable[str]) -> None:
        """Remove what no job has: of submissions that were broken off, and of jobs that were removed."""
        keep = set(known)
        for path in [*self.incoming.iterdir(), *(path for path in self.jobs.iterdir() if path.name not in keep)]:
            remove(path)

    def size(self, id: str) -> int:  # noqa: A002
        """Give the bytes on disk that a job's folder takes."""
        total = 0
        for parent, _, names, place in os.fwalk(self.of(id)):
            del parent
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.stat(name, dir_fd=place, follow_symlinks=False).st_blocks * 512
        return total


def remove(path: Path) -> None:
    """Remove a file or a folder, also one in which a job has taken its own rights away."""

    def allow(function: Any, name: str, error: Any) -> None:  # noqa: ARG001
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            function(name)

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=allow)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def progress(folder: Path) -> dict[str, Any] | None:
    """Give how far a job is, as it wrote it last; None when it did not."""
    try:
        content = json.loads((folder / PROGRESS).read_text())
        stage, done, total = str(content["stage"])[:100], int(content["done"]), int(content["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return {"stage": stage, "done": done, "total": total}


def ran(folder: Path) -> float:
    """Give for how many seconds a job has run, as it was noted last."""
    try:
        return float((folder / RAN).read_text())
    except (OSError, ValueError):
        return 0.0


def note_ran(folder: Path, seconds: float) -> None:
    """Note for how long a job has run, for the service that goes on with it."""
    new = folder / f"{RAN}-new"
    with contextlib.suppress(OSError):
        new.write_text(f"{seconds:.3f}")
        new.replace(folder / RAN)


def log_line(folder: Path, line: str) -> None:
    """Add a line of the service's own to a job's log."""
    with contextlib.suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(f"jobs: {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC: {line}\n")


def limit_log(folder: Path, most: int) -> None:
    """Empty a job's log that is longer than it may be, and say so in it."""
    log = folder / LOG
    with contextlib.suppress(OSError):
        if (size := log.stat().st_size) > most:
            # All who write to it append.
            os.truncate(log, 0)
            log_line(folder, f"the log was longer than it may be: its first {size:,} bytes are gone")
