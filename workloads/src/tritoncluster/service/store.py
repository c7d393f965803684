"""The queue on disk: SQLite, and each change is on the disk before anybody hears of it."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tritoncluster.errors import InputError
from tritoncluster.service.clock import PLAUSIBLE, Clock
from tritoncluster.service.model import Job, Request, State

FORMAT = 1
TABLE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE NOT NULL,
    key TEXT UNIQUE NOT NULL,
    digest TEXT NOT NULL,
    who TEXT NOT NULL,
    request TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'finished', 'failed', 'cancelled')),
    reason TEXT NOT NULL DEFAULT '',
    exit_status INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    arrived REAL NOT NULL,
    started REAL,
    ended REAL
) STRICT
"""
ORDER = "ORDER BY priority DESC, number"


class Store:
    """All jobs that were accepted and not removed; one process at a time has it.

    Parameters
    ----------
    path
        The file; made where there is none.

    Attributes
    ----------
    clock : Clock
        What time it is, for how long what has ended is kept.

    Raises
    ------
    InputError
        When the file was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self._database = sqlite3.connect(path, isolation_level=None)
        # WAL: one write to the disk for each change instead of three.
        for setting in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000"):
            self._database.execute(f"PRAGMA {setting}")
        with self._change():
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise InputError(f"{path} was written by a newer tritoncluster; start that one, or restore a backup")
            if found == 0:
                self._database.execute(TABLE)
                self._database.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def add(self, id: str, key: str, digest: str, who: str, request: Request) -> None:  # noqa: A002
        """Accept a job. When this returns, it is on the disk.

        Raises
        ------
        sqlite3.IntegrityError
            When there is one with that ID or key.
        """
        with self._change():
            self._database.execute(
                "INSERT INTO jobs (id, key, digest, who, request, priority, state, arrived) VALUES (?,?,?,?,?,?,?,?)",
                (id, key, digest, who, json.dumps(request.to_json()), request.priority, State.WAITING, time.time()),
            )

    def get(self, id: str) -> Job | None:  # noqa: A002
        """Find a job."""
        return next(self._select("WHERE id = ?", id), None)

    def known(self, key: str) -> tuple[Job, str] | None:
        """Find the job that a client gave this key, and the digest of what was sent along."""
        for job in self._select("WHERE key = ?", key):
            (digest,) = self._database.execute("SELECT digest FROM jobs WHERE id = ?", (job.id,)).fetchone()
            return job, digest
        return None

    def all(self, most_ended: int = -1) -> list[Job]:
        """List what there is: what runs, what waits, in its order, and what has ended, the last one first.

        Of what has ended `most_ended` at most, if that is no negative number.
        """
        live = list(self._select(f"WHERE state IN ('running', 'waiting') {ORDER}"))
        over = "WHERE state NOT IN ('running', 'waiting') ORDER BY ended DESC, number DESC LIMIT ?"
        ended = self._select(over, most_ended)
        return [*sorted(live, key=lambda job: job.state is State.WAITING), *ended]

    def in_state(self, state: State) -> list[Job]:
        """List the jobs in a state, in the order in which they come."""
        return list(self._select(f"WHERE state = ? {ORDER}", state))

    def _select(self, what: str, *values: Any) -> Iterator[Job]:
        columns = "id, key, who, request, state, reason, exit_status, attempts, arrived, started, ended"
        with closing(self._database.execute(f"SELECT {columns} FROM jobs {what}", values)) as rows:  # noqa: S608
            for id_, key, who, request, state, *others in rows.fetchall():
                yield Job(id_, key, who, Request.from_json(json.loads(request)), State(state), *others)

    def begin(self, id: str) -> bool:  # noqa: A002
        """Note that a job that waits is started; say whether it did wait."""
        return self._set(
            id,
            "state = 'running', attempts = attempts + 1, started = COALESCE(started, ?), reason = ''",
            [time.time()],
            "state = 'waiting'",
        )

    def end(self, id: str, state: State, exit_status: int | None = None, reason: str = "") -> bool:  # noqa: A002
        """Note how a job that runs ended; say whether it still did run, and had not been cancelled."""
        changes = "state = ?, exit_status = ?, reason = ?, ended = ?"
        return self._set(id, changes, [state, exit_status, reason, self.clock.latest()], "state = 'running'")

    def wait_again(self, id: str, reason: str, *, counts: bool = True) -> bool:  # noqa: A002
        """Put a job that ran back into the queue, where it was; `counts` when that was one of its attempts."""
        changes = "state = 'waiting', reason = ?, attempts = attempts - ?"
        return self._set(id, changes, [reason, 0 if counts else 1], "state = 'running'")

    def cancel(self, id: str, who: str) -> bool:  # noqa: A002
        """Note that a job is not to run, or no longer; say whether it was not over."""
        changes = "state = 'cancelled', reason = ?, ended = ?"
        return self._set(id, changes, [f"cancelled by {who}", self.clock.latest()], "state IN ('waiting', 'running')")

    def retry(self, id: str) -> bool:  # noqa: A002
        """Let a job that failed or was cancelled wait again, at the end of its queue; say whether it is one."""
        changes = "state = 'waiting', reason = '', exit_status = NULL, attempts = 0, ended = NULL"
        with self._change():
            (last,) = self._database.execute("SELECT MAX(number) FROM jobs").fetchone()
            done = self._database.execute(
                f"UPDATE jobs SET {changes}, number = ? WHERE id = ? AND state IN ('failed', 'cancelled')",  # noqa: S608
                [(last or 0) + 1, id],
            )
            # Numbers that were given stay given.
            self._database.execute("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'jobs'", [last + 1])
        return done.rowcount == 1

    def remove(self, id: str) -> bool:  # noqa: A002
        """Forget a job that is over; say whether it is."""
        with self._change():
            return (
                self._database.execute(
                    "DELETE FROM jobs WHERE id = ? AND state NOT IN ('waiting', 'running')", [id]
                ).rowcount
                == 1
            )

    def set_unknown_ends(self) -> None:
        """Take what ended while the clock was not set, or was ahead, for what has ended now."""
        now = self.clock.latest()
        if now > PLAUSIBLE:
            with self._change():
                self._database.execute("UPDATE jobs SET ended = ? WHERE ended < ? OR ended > ?", [now, PLAUSIBLE, now])

    def _set(self, id: str, changes: str, values: list[Any], condition: str) -> bool:  # noqa: A002
        with self._change():
            done = self._database.execute(
                f"UPDATE jobs SET {changes} WHERE id = ? AND {condition}",  # noqa: S608 - of this file alone
                [*values, id],
            )
        return done.rowcount == 1
