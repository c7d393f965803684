"""The folder that a run writes into."""

import json
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
    folder = Path(given) if given else Path("results") / f"{job}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    # Permission bits do not tell: the file system may be read-only or full. Hence a try.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"--output {folder} can't be written: {error.strerror}; name another folder") from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
    for name in (RESULT, REPORT):
        if (folder / name).exists():
            raise InputError(f"--output {folder}: it has a {name} already; name another folder")
    return folder


def write_traceback(folder: Path, error: BaseException) -> Path:
    """Keep what a programmer wants to know of an error, and give the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "traceback.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def write(folder: Path, content: dict[str, Any], write_report: Callable[[Path], None]) -> None:
    """Write both files; the result first, since it is small and needs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_report(folder / REPORT)
