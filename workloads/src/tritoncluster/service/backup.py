"""All jobs in one file, and back: `python -m tritoncluster.service.backup save|restore FOLDER FILE`.

They are saved while the service goes on: the queue as it is at one moment, then the folders of its jobs. They are
restored where no service has the folder; what was there is kept in `replaced` until the next time.
"""

import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path, PurePosixPath
from uuid import uuid4

from tritoncluster.errors import InputError
from tritoncluster.service import folders, upload
from tritoncluster.service.folders import Folders
from tritoncluster.service.model import ID
from tritoncluster.service.store import Store

QUEUE, JOURNAL, REPLACED = "jobs.sqlite", "journal.sqlite", "replaced"


def save(base: Path, file: Path) -> int:
    """Write all jobs of a service's folder into a file; give how many they are.

    Raises
    ------
    InputError
        When there are none to be read, or the file can't be written.
    """
    if not (base / QUEUE).exists():
        raise InputError(f"{base} has no jobs; give the folder of a jobs service")
    part = file.with_name(f"{file.name}.part")
    try:
        with tempfile.TemporaryDirectory(dir=base) as made, tarfile.open(part, "w") as archive:
            queue = Path(made, QUEUE)
            _copy(base / QUEUE, queue)
            archive.add(queue, QUEUE)
            with closing(sqlite3.connect(queue)) as database:
                ids = [id_ for (id_,) in database.execute("SELECT id FROM jobs ORDER BY number")]
            for id_ in ids:
                _add(archive, base / "jobs" / id_, id_, Path(made, JOURNAL))
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{file} can't be written: {error.strerror or error}") from None
    return len(ids)


def _copy(source: Path, target: Path) -> None:
    """Copy a database that is in use, as it is at one moment."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _add(archive: tarfile.TarFile, folder: Path, id_: str, spare: Path) -> None:
    left_out = (*folders.INTERNAL, JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm")
    for name, file in upload.fetched(folder, lambda path: path.partition("/")[0] not in left_out):
        with file:
            member = tarfile.TarInfo(f"jobs/{id_}/{name}")
            member.size = os.fstat(file.fileno()).st_size
            archive.addfile(member, _Padded(file))  # type: ignore[arg-type]  # all that is asked of it is read
    journal = upload.open_plain(folder / JOURNAL)
    if journal is not None:
        journal.close()
        try:
            _copy(folder / JOURNAL, spare)
        except sqlite3.Error:
            # It can't be read here: what it has is computed again.
            return
        archive.add(spare, f"jobs/{id_}/{JOURNAL}")


class _Padded:
    """A file that may lose something while it is read: zeros stand for it."""

    def __init__(self, file: object) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        block: bytes = self._file.read(size)  # type: ignore[attr-defined]
        return block.ljust(size, b"\0")


def restore(base: Path, file: Path) -> int:
    """Put the jobs of a file where no service runs; give how many they are.

    Raises
    ------
    InputError
        When the file is no such backup, or a service has the folder. Nothing has changed then.
    """
    places = Folders(base)
    made = base / "incoming" / uuid4().hex
    try:
        _unpack(file, made)
        store = Store(made / QUEUE)
        jobs = store.all()
        store.close()
        for job in jobs:
            (made / "jobs" / job.id / upload.FILES).mkdir(parents=True, exist_ok=True)
        folders.remove(base / REPLACED)
        (base / REPLACED).mkdir()
        for name in (QUEUE, f"{QUEUE}-wal", f"{QUEUE}-shm", "jobs"):
            if (base / name).exists():
                (base / name).rename(base / REPLACED / name)
        (made / "jobs").mkdir(exist_ok=True)
        # The queue last: without it, a service begins with none, and what is replaced is still there.
        (made / "jobs").rename(base / "jobs")
        (made / QUEUE).rename(base / QUEUE)
        upload.sync(base)
    except (sqlite3.DatabaseError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is no backup of jobs: {error}") from None
    except OSError as error:
        raise InputError(f"{base} can't be written: {error.strerror or error}") from None
    finally:
        folders.remove(made)
        places.close()
    return len(jobs)


def _unpack(file: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                own = path.parts[:1] == ("jobs",) and len(path.parts) > 2 and ID.fullmatch(path.parts[1])
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or ".." in path.parts or not (own or member.name == QUEUE):
                    raise InputError(f"{file} is no backup of jobs: it has {member.name[:100]!r}")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as new:
                    shutil.copyfileobj(content, new)
                    new.flush()
                    os.fsync(new.fileno())
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{file} is no backup of jobs: {error}") from None
    if not (folder / QUEUE).exists():
        raise InputError(f"{file} is no backup of jobs: it has no {QUEUE}")


def main() -> None:
    """Save or restore, and say how many jobs, or exit with one line."""
    os.umask(0o077)
    match sys.argv[1:]:
        case ["save" | "restore" as word, base, file]:
            pass
        case _:
            sys.exit("jobs: give save or restore, the folder of the service, and the file")
    try:
        number = {"save": save, "restore": restore}[word](Path(base), Path(file))
    except InputError as error:
        sys.exit(f"jobs: {error}")
    print(f"{number} jobs {word}d")  # noqa: T201 - a program


if __name__ == "__main__":
    main()
