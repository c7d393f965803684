"""How a job travels: a tar archive of what is wanted and of the files that go with it, and back one of its folder."""

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from tritoncluster.errors import InputError
from tritoncluster.service.model import Request

REQUEST, FILES = "job.json", "files"
MOST_FILES, LONGEST_NAME, DEEPEST, LARGEST_REQUEST = 10_000, 1000, 40, 2**20


def pack(request: Request, files: Mapping[str, bytes]) -> bytes:
    """Make the archive of a request and its files, path -> content; the same of the same, to the byte."""
    content = json.dumps(request.to_json(), sort_keys=True).encode()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in [(REQUEST, content), *((f"{FILES}/{path}", files[path]) for path in sorted(files))]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def unpack(archive: Path, folder: Path, limit: int) -> Request:
    """Write an archive's files below `folder`, which is new, and all of it is on the disk then.

    Nothing but plain files in plain folders is taken, whatever the archive says of links, owners and rights.

    Parameters
    ----------
    archive
        As `pack` makes it, from anybody.
    folder
        Where to; it has a folder `files` afterwards.
    limit
        Bytes that the files may have.

    Raises
    ------
    InputError
        When it is no such archive. What is in `folder` then is of no use.
    """
    request, count = None, 0
    (folder / FILES).mkdir(parents=True)
    try:
        with tarfile.open(archive, mode="r:") as members:
            for member in members:
                content = members.extractfile(member) if member.isreg() else None
                if content is None:
                    raise InputError(f"{member.name[:100]!r} is no plain file; send files alone")
                if member.name == REQUEST and request is None and member.size <= LARGEST_REQUEST:
                    request = Request.from_json(json.loads(content.read()))
                    continue
                count, limit = count + 1, limit - member.size
                if count > MOST_FILES or limit < 0:
                    raise InputError("the files are too many or too large; send less along")
                _write(folder / checked_path(member.name), content)
    except (tarfile.TarError, json.JSONDecodeError, UnicodeDecodeError, EOFError, RecursionError) as error:
        raise InputError(f"the archive can't be read: {error}") from None
    if request is None:
        raise InputError(f"the archive has no {REQUEST}")
    for parent, _, _ in os.walk(folder, topdown=False):
        sync(Path(parent))
    return request


def checked_path(name: str) -> PurePosixPath:
    """Give the path of a file below a job's folder.

    Raises
    ------
    InputError
        When it is outside of the folder `files`, or not written plainly.
    """
    path = PurePosixPath(name)
    plain = str(path) == name and "\\" not in name and "\0" not in name and name.isprintable()
    if not plain or path.is_absolute() or ".." in path.parts or path.parts[0] != FILES or len(path.parts) < 2:
        raise InputError(f"{name[:100]!r} is no path of a file in {FILES}")
    if len(name.encode()) > LONGEST_NAME or len(path.parts) > DEEPEST:
        raise InputError(f"{name[:100]!r}… is too long a path")
    return path


def _write(path: Path, content: IO[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while block := content.read(2**20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InputError(f"{path.name}: two files that go along have the same path; rename one") from None


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fetched(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    """Give the plain files below a job's folder that are wanted: path below it, and the file, which the taker closes.

    Links are left out: a job may have made one to another job's files.
    """
    for parent, folders, names, place in os.fwalk(folder, follow_symlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name).relative_to(folder).as_posix()
            if wanted(path) and (file := open_plain(name, place)):
                yield path, file


def open_plain(name: str | Path, place: int | None = None) -> IO[bytes] | None:
    """Open a file for reading, None when it is no plain one: a link, a pipe or nothing."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None
