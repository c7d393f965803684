"""What a worker and its tasks write to disk: in a folder of its own, removed with the worker, and limited.

A preload module of the nanny and of the worker. The nanny, or the worker itself where it has none, looks after both
places as it looks after memory: a worker whose folder grows beyond `WORKER_MAX_DISK` is killed, and started again
without it; a `/tmp` that is nearly full, which only tasks fill that name it, loses the files that nobody has open or
has written to for a while.
"""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from distributed import Nanny
from tornado.ioloop import IOLoop, PeriodicCallback

logger = logging.getLogger("distributed.nanny.scratch")

#: Seconds between two looks, and those for which a file in a full /tmp is left alone.
LOOK_EVERY, LEFT_ALONE = 5.0, 60.0
#: Share of /tmp that may be taken.
FULL = 0.9
TEMPORARY = Path("/tmp")  # noqa: S108 - the container's own


def dask_setup(server: Any) -> None:
    """Look after the folders in the nanny, use them in the worker."""
    if isinstance(server, Nanny):
        _look_after(server, lambda: _folder_of(server), lambda: _end_process_of(server))
        return
    use(Path(server.local_directory))
    if not server.nanny:
        _look_after(server, lambda: Path(server.local_directory), _end)


def use(folder: Path) -> None:
    """Let tasks write in the worker's folder, and take away what another one left in /tmp."""
    empty(TEMPORARY)
    own = folder / "tmp"
    own.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    os.chdir(folder)


def empty(folder: Path) -> None:
    """Remove all in a folder that can be removed."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def taken(folder: Path) -> int:
    """Give the bytes on disk of all files in a folder; they may go while we look."""
    total = 0
    for path in _files(folder):
        try:
            total += path.lstat().st_blocks * 512
        except OSError:
            continue
    return total


def reap(folder: Path, now: float) -> int:
    """Remove the files in a folder that no process has open and nobody has written to for a while; give their bytes."""
    in_use, removed = set(_open_files()), 0
    for path in _files(folder):
        try:
            state = path.lstat()
            if str(path) not in in_use and now - state.st_mtime > LEFT_ALONE:
                path.unlink()
                removed += state.st_blocks * 512
        except OSError:
            continue
    return removed


def _folder_of(nanny: Nanny) -> Path | None:
    process = nanny.process
    return Path(process.worker_dir) if process and process.process and process.worker_dir else None


async def _end_process_of(nanny: Nanny) -> None:
    # At once, and it starts another.
    await nanny.process.process.kill()


async def _end() -> None:
    # The engine starts the container again.
    os.kill(os.getpid(), signal.SIGKILL)


def _look_after(server: Any, folder: Callable[[], Path | None], end: Callable[[], Awaitable[None]]) -> None:
    from dask.utils import format_bytes

    limit = int(os.environ["WORKER_DISK_BYTES"])

    async def look() -> None:
        own = folder()
        if limit and own:
            size = await IOLoop.current().run_in_executor(None, taken, own)
            # Another worker, which may have taken its place meanwhile, has another folder.
            if size > limit and own == folder():
                logger.warning(
                    "The worker's files take %s of disk, and WORKER_MAX_DISK is %s: starting it again without them",
                    format_bytes(size), format_bytes(limit),
                )  # fmt: skip
                await end()
        disk = shutil.disk_usage(TEMPORARY)
        if disk.used > FULL * disk.total and (removed := reap(TEMPORARY, time.time())):
            logger.warning("%s was full: removed %s that nobody had open", TEMPORARY, format_bytes(removed))

    # The server starts and stops all that are there.
    server.periodic_callbacks["scratch"] = PeriodicCallback(look, LOOK_EVERY * 1000)


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def _open_files() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield from (str(link.readlink()) for link in (process / "fd").iterdir())
        except OSError:
            continue
