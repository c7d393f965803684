"""The folder that a run writes into."""

import json
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tritoncluster.errors import InputError

RESULT, REPORT = "result.json", "report.html"


def choose_folder(given: str | None, job: str) -> Path:
    """Give the folder for a run's files, after making sure that it can be written; nothing is created yet.

    Raises
    ------
    InputError
        When it can't be written, or has a result already.
    """
    folder = checked_folder(Path(given) if given else new_folder(job), "--output")
    for name in (RESULT, REPORT):
        if (folder / name).exists():
            raise InputError(f"--output {folder}: it has a {name} already; name another folder")
    return folder


def new_folder(job: str) -> Path:
    """Name a folder for a run that begins now."""
    return Path("results") / f"{job}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def checked_folder(folder: Path, option: str) -> Path:
    """Make sure that a folder can be written; nothing is created yet. Raises InputError, which names the option."""
    # Permission bits do not tell: the file system may be read-only or full. Hence a try.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{option} {folder} can't be written: {error.strerror}; name another folder") from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
    return folder


def write_traceback(folder: Path, error: BaseException) -> str:
    """Keep what a programmer wants to know of an error, and say where it is."""
    path = folder / "traceback.txt"
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(path, lambda new: new.write_text(text, encoding="utf-8"))
    except OSError as full:
        return f"nowhere ({full.strerror})"
    return str(path)


def write(folder: Path, content: dict[str, Any], write_report: Callable[[Path], None]) -> None:
    """Write both files, each as a whole or not at all; the result first, since it is small and needs nothing.

    Raises
    ------
    OSError
        When the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    replace(folder / RESULT, lambda new: new.write_text(text, encoding="utf-8"))
    replace(folder / REPORT, write_report)


def replace(path: Path, write_new: Callable[[Path], object]) -> None:
    """Write a file beside the one of that name, and put it in its place when it is whole and on the disk."""
    new = path.with_name(f".{path.name}.new")
    try:
        write_new(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
