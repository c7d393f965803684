"""The file that finished pieces are kept in: an SQLite database, to which a thread of its own adds about once a second.

A row is a key, a blob and a checksum of both. What is committed survives a power cut; a row that is damaged is no row;
of a database that can't be read, what still can be is moved into a new one.
"""

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from tritoncluster.errors import InputError

#: Of the file. Another number is another format.
FORMAT = 1
APPLICATION = 0x54524A31
#: Seconds between commits, each of which is an fsync.
COMMIT_EVERY = 1.0
#: Bytes that wait for a commit, above which nothing more is taken in: the disk is slower than results come.
WAITING_BYTES = 64 << 20
#: Rows; their keys are in memory.
MAX_ROWS = 500_000
#: Pages of SQLite's log (4 KiB each) above which it is moved into the database, which takes two more fsyncs.
LOG_PAGES = 16_384
#: Bytes of a row beside its blob.
ROW_BYTES = 64

#: A key, what makes its blob, and the bytes that this is about.
Entry: TypeAlias = tuple[bytes, Callable[[], bytes], int]

_TABLES = """
CREATE TABLE IF NOT EXISTS results (key BLOB NOT NULL, blob BLOB NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS surroundings (digest BLOB PRIMARY KEY, content TEXT NOT NULL);
"""


class Store:
    """Blobs by key, on disk. May be used from any thread.

    Parameters
    ----------
    path
        Of the file, which is made if there is none. It is this user's alone.
    limit
        Bytes that the file may have.
    tell
        Takes lines for the user.

    Attributes
    ----------
    rows : int
        Rows that were there in the beginning.
    lost : int
        Of these, and of those that must have been there, how many can't be read.
    stopped : str
        Why nothing more is kept; "" as long as it is.

    Raises
    ------
    InputError
        When it is somebody else's file, of a newer format, in use, or on a disk that can't be written.
    """

    def __init__(self, path: Path, limit: int, tell: Callable[[str], None]) -> None:
        self.path, self._limit, self._tell = path, limit, tell
        self.lost = 0
        self.stopped = ""
        self._lock = threading.Lock()
        self._rows: dict[bytes, int] = {}
        self._database = self._open()
        self._bytes = path.stat().st_size
        self._found = frozenset(self._rows)
        self.rows = len(self._found)
        # None is the end. No Condition: Ctrl-C in the middle of one leaves it locked (see balance/bell.py).
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._committed = -COMMIT_EVERY
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def find(self, key: bytes) -> int | None:
        """Give the length of the blob that was there in the beginning, None where there was none that is good."""
        if key not in self._found or key not in self._rows:
            return None
        blob = self._read(key)
        if blob is None:
            # What is computed again takes its place.
            self._rows.pop(key, None)
            self.lost += 1
            return None
        return len(blob)

    def load(self, key: bytes) -> bytes:
        """Give the blob of a key that `find` knew."""
        blob = self._read(key)
        if blob is None:
            raise OSError(f"{self.path} has been damaged while it was in use")
        return blob

    def keep(self, key: bytes, nbytes: int, blob: Callable[[], bytes]) -> None:
        """Let a row be written, soon; `blob` gives its blob, of about `nbytes`, in the thread that writes."""
        if self.stopped:
            return
        with self._counting:
            if self._waiting_bytes > WAITING_BYTES:
                self._stop("the disk is slower than results come")
                return
            self._waiting_bytes += nbytes
        self._waiting.put((key, blob, nbytes))

    def surroundings(self) -> list[str]:
        """Give what `note_surroundings` was given for earlier rows."""
        with self._lock:
            return [content for (content,) in self._database.execute("SELECT content FROM surroundings ORDER BY rowid")]

    def note_surroundings(self, digest: bytes, content: str) -> None:
        """Keep in what surroundings rows come about; for people."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.execute("INSERT OR IGNORE INTO surroundings VALUES (?, ?)", (digest, content))

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._waiting.put(None)
        self._writer.join()
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.close()

    # The thread that writes.

    def _write(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            with self._counting:
                self._waiting_bytes -= sum(nbytes for _, _, nbytes in batch)
            if batch and not self.stopped:
                self._add(batch)

    def _next_batch(self) -> tuple[list[Entry], bool]:
        """Wait for what is to be written, for as long as the disk is to be left alone; tell whether it is the last."""
        batch: list[Entry] = []
        entry = self._waiting.get()
        while entry is not None:
            batch.append(entry)
            try:
                entry = self._waiting.get(timeout=max(0.0, self._committed + COMMIT_EVERY - time.monotonic()))
            except Empty:
                return batch, False
        return batch, True

    def _add(self, batch: list[Entry]) -> None:
        rows: list[tuple[bytes, bytes, bytes]] = []
        for key, make, _ in batch:
            blob = make()
            self._bytes += len(blob) + ROW_BYTES
            if self._bytes > self._limit or len(self._rows) + len(rows) >= MAX_ROWS:
                self._stop(f"it has reached its limit of {self._limit / 1e6:,.0f} MB or {MAX_ROWS:,} results")
                break
            rows.append((key, blob, _checksum(key, blob)))
        try:
            with self._lock:
                try:
                    self._commit(rows)
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    # Damage that only shows where something is written.
                    self._database.close()
                    self._database = self._rescued()
                    self._commit(rows)
        except (OSError, sqlite3.Error) as error:
            self._stop(f"{error}")
        self._committed = time.monotonic()

    def _commit(self, rows: list[tuple[bytes, bytes, bytes]]) -> None:
        """Write rows, all or none of them, and have them on the disk."""
        self._database.execute("BEGIN")
        try:
            self._database.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
            ((last,),) = self._database.execute("SELECT last_insert_rowid()")
            # They have the numbers after the highest so far.
            self._rows.update((row[0], last - len(rows) + number) for number, row in enumerate(rows, 1))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            for key, *_ in rows:
                self._rows.pop(key, None)
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def _stop(self, why: str) -> None:
        if not self.stopped:
            self.stopped = why
            self._tell(
                f"{self.path} takes no more results: {why}; the work goes on, what it does from now on is not kept"
            )

    # Reading.

    def _read(self, key: bytes) -> bytes | None:
        try:
            with self._lock:
                row = self._database.execute(
                    "SELECT key, blob, checksum FROM results WHERE rowid = ?", (self._rows[key],)
                ).fetchone()
        except (sqlite3.Error, KeyError):
            return None
        good = row and row[0] == key and isinstance(row[1], bytes) and _checksum(key, row[1]) == row[2]
        return row[1] if good else None

    def _open(self) -> sqlite3.Connection:
        try:
            _make_own(self.path)
            try:
                return self._opened()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                return self._rescued()
        except (OSError, sqlite3.Error) as error:
            if "locked" in str(error):
                raise InputError(
                    f"{self.path} is in use by another run; wait for its end, or name another folder"
                ) from None
            raise InputError(
                f"{self.path} can't be used: {getattr(error, 'strerror', None) or error}; name another folder"
            ) from None

    def _opened(self) -> sqlite3.Connection:
        database = _connected(self.path)
        try:
            self._check_format(database)
            database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute(f"PRAGMA user_version = {FORMAT}")
            database.executescript(_TABLES)
            last = 0
            for number, key in database.execute("SELECT rowid, key FROM results ORDER BY rowid"):
                # Rows are never removed.
                self.lost += number - last - 1
                last = number
                self._rows[bytes(key)] = number
        except BaseException:
            self._rows, self.lost = {}, 0
            database.close()
            raise
        return database

    def _check_format(self, database: sqlite3.Connection) -> None:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and tables:
            raise InputError(f"{self.path} is a database, but no journal of tritoncluster; name another folder")
        if version > FORMAT:
            raise InputError(
                f"{self.path} has format {version}, and this tritoncluster knows {FORMAT}: go on with the newer one, "
                "or name another folder"
            )

    def _rescued(self) -> sqlite3.Connection:
        """Move what can be read of a damaged database into a new one."""
        new = self.path.with_name(f"{self.path.name}-new")
        for name in (new, new.with_name(f"{new.name}-wal")):
            name.unlink(missing_ok=True)
        _make_own(new)
        target = _connected(new)
        target.executescript(_TABLES)
        target.execute(f"PRAGMA application_id = {APPLICATION}")
        target.execute(f"PRAGMA user_version = {FORMAT}")
        target.execute("BEGIN")
        rescued = 0
        for row in _readable(self.path):
            target.execute("INSERT INTO results VALUES (?, ?, ?)", row)
            rescued += 1
        target.execute("COMMIT")
        target.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
        new.replace(self.path)
        _sync(self.path.parent)
        self._rows = {}
        self._tell(f"{self.path} was damaged: {rescued:,} results of it are good, the others are computed again")
        return self._opened()


def _checksum(key: bytes, blob: bytes) -> bytes:
    return blake2b(blob, digest_size=8, key=key).digest()


def _make_own(path: Path) -> None:
    """Make a file that is this user's alone; see that one that is there is. What is in it is unpickled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _sync(path.parent)
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"{path} can be written by others, and what is in it is run; if all of it is yours, write "
            f"'chown {os.geteuid()} {path} && chmod 600 {path}'"
        )


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connected(path: Path) -> sqlite3.Connection:
    # Locked for others, and without shared memory, which network file systems lack.
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    except BaseException:
        database.close()
        raise
    return database


def _readable(path: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Give the good rows of a damaged database, as far as its pages can be read."""
    try:
        database = _connected(path)
    except sqlite3.Error:
        return
    try:
        (last,) = database.execute("SELECT max(rowid) FROM results").fetchone()
    except sqlite3.Error:
        last = MAX_ROWS
    failed = 0
    with contextlib.closing(database):
        for number in range(1, (last or 0) + 1):
            try:
                row = database.execute("SELECT key, blob, checksum FROM results WHERE rowid = ?", (number,)).fetchone()
            except sqlite3.Error:
                failed += 1
                if failed == number and failed > 100:  # as where there is no table
                    return
                continue
            if row and all(isinstance(part, bytes) for part in row) and _checksum(row[0], row[1]) == row[2]:
                yield row
