"""Ends a process in the middle of a commit to SQLite, once a trap is set for it; every Python with this folder on its
path has it. A trap is a file of the database's name, and the first who commits there takes it.
"""

import os
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

TRAPS = Path(os.environ["TRITONCLUSTER_TRAPS"])
#: Bytes of the last page that a torn write leaves out.
TORN = 2000
_connect = sqlite3.connect


class Trapped(sqlite3.Connection):
    """A connection that looks for a trap before it commits."""

    path: Path

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement, or end the process in it."""
        how = _taken(self.path) if sql == "COMMIT" else ""
        if how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        log = self.path.with_name(f"{self.path.name}-wal")
        size = log.stat().st_size if how else 0
        found = super().execute(sql, *values)
        if how:
            # What was committed before, and told, stays whole.
            if how == "torn" and log.stat().st_size > size + TORN:
                os.truncate(log, log.stat().st_size - TORN)
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def _taken(path: Path) -> str:
    trap, own = TRAPS / path.name, TRAPS / f"taken-{os.getpid()}"
    with suppress(FileNotFoundError):
        trap.rename(own)
        return own.read_text()
    return ""


def connect(path: Any, *values: Any, **options: Any) -> sqlite3.Connection:
    """Open a database as ever."""
    connection = _connect(path, *values, factory=Trapped, **options)
    connection.path = Path(path)
    return connection


sqlite3.connect = connect
