"""Finished pieces of a run on disk, so that it goes on after a crash where it was.

A *piece* is a call, or an item of several where something is made of their results together. It is known again by a
fingerprint of all that its result depends on, and by which one of the pieces with the same fingerprint it is. There is
no wrong answer: what may have changed has another fingerprint, and is computed again. `tritoncluster run` and `submit`
use a journal; `balance/` asks it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from tritoncluster.errors import InputError
from tritoncluster.journal.store import Store
from tritoncluster.journal.surroundings import Surroundings, UnknownCodeError
from tritoncluster.units import Unit

__all__ = ["JOURNAL", "LIMIT", "Journal", "UnknownCodeError", "current", "in_use"]

#: Name of the file in a run's folder.
JOURNAL = "journal.sqlite"
#: Bytes that it may have, if nobody says otherwise.
LIMIT = 1 << 30


class Journal:
    """The pieces of one run. May be used from any thread.

    Parameters
    ----------
    path
        Of its file. It is made by `begin`, unless it is there.
    limit
        Bytes that it may have.
    tell
        Takes lines for the user.
    about
        What the user should know of it, once it is in use.
    own_code
        Whether all pieces may depend on tritoncluster's own code.

    Attributes
    ----------
    taken, computed, doubtful : int
        Pieces that came from it, that are computed, and that are never kept as nobody can say what they depend on.

    Raises
    ------
    InputError
        When the file can't be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: int = LIMIT,
        tell: Callable[[str], None],
        about: str = "",
        own_code: bool = False,
    ) -> None:
        self.path, self._limit, self._tell, self._about = path, limit, tell, about
        self.surroundings = Surroundings(own_code=own_code)
        self.taken = self.computed = self.doubtful = 0
        self._lock = Lock()
        # Of fingerprints, half of each: so many pieces had it.
        self._seen: dict[bytes, int] = {}
        self._doubts: set[str] = set()
        self._noted = b""
        self._store: Store | None = None
        self._begun = False
        if path.exists():
            self._store = Store(path, limit, tell)

    def begin(self) -> None:
        """Make its file, unless that is there; a run of calls begins. What goes wrong is told, and nothing is kept."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
            try:
                self._store = self._store or Store(self.path, self._limit, self._tell)
            except InputError as error:
                self._tell(f"finished results are not kept: {error}")
                return
        changed = self.surroundings.changed(self._store.surroundings())
        if self._store.rows and changed:
            self._tell(f"{self.path} was made with another {_some(changed)}: what it has is computed again")
        self._note()
        if self._about:
            self._tell(self._about)

    def key(self, fingerprint: bytes) -> bytes:
        """Give the key of the next piece with a fingerprint."""
        half = fingerprint[:8]
        with self._lock:
            place = self._seen[half] = self._seen.get(half, 0) + 1
        return fingerprint if place == 1 else blake2b(fingerprint + place.to_bytes(8, "big"), digest_size=16).digest()

    def find(self, keys: list[bytes]) -> int | None:
        """Give the bytes of pieces that were finished in an earlier run; None where not all of them are there."""
        store = self._store
        sizes = [store.find(key) for key in keys] if store and store.rows else [None]
        found = None if None in sizes else sum(size or 0 for size in sizes)
        with self._lock:
            if found is None:
                self.computed += len(keys)
            else:
                self.taken += len(keys)
        return found

    def load(self, key: bytes) -> bytes:
        """Give a piece that `find` found."""
        if self._store is None:
            raise OSError(f"there is no {self.path}")
        return self._store.load(key)

    def keep(self, key: bytes, nbytes: int, blob: Callable[[], bytes]) -> None:
        """Keep a finished piece, see `Store.keep`."""
        if self._store:
            self._store.keep(key, nbytes, blob)

    def doubt(self, pieces: int, why: str) -> None:
        """Take note of pieces that can't be kept; the first time for each reason, the user hears of it."""
        with self._lock:
            self.doubtful += pieces
            new = why not in self._doubts and len(self._doubts) < 10
            self._doubts.add(why)
        if new:
            self._tell(f"some results are not kept, and are computed again when this is resumed: {why}")

    def add_files(self, units: Iterable[Unit]) -> None:
        """Take in files that go along with a script."""
        self.surroundings.add(units)
        # Before it begins, there are those of earlier runs to compare with.
        if self._noted:
            self._note()

    def close(self, *, complete: bool) -> None:
        """Let go of the file, and say what came of it; `complete` when the run was not broken off."""
        with self._lock:
            store, self._store, self._begun = self._store, None, True
        if store is None:
            return
        store.close()
        if store.lost:
            self._tell(f"{store.lost:,} results in {self.path} were damaged or missing, and were computed again")
        unused = store.rows - self.taken
        if self.taken or (complete and unused > 0):
            unused_words = (
                f"; {unused:,} that are in it are of other calls, code or data" if complete and unused > 0 else ""
            )
            self._tell(
                f"{self.taken:,} of {self.taken + self.computed + self.doubtful:,} results came from {self.path}"
                f"{unused_words}"
            )

    def _note(self) -> None:
        if self._store and self._noted != self.surroundings.base:
            self._noted = self.surroundings.base
            self._store.note_surroundings(self._noted, self.surroundings.content)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


_current: Journal | None = None


def current() -> Journal | None:
    """Give the journal of this process, if it has one."""
    return _current


@contextmanager
def in_use(journal: Journal) -> Iterator[None]:
    """Let all runs of this process that begin inside use a journal."""
    # Not a context variable: runs begin in threads of joblib's and of the user's.
    global _current  # noqa: PLW0603
    before, _current = _current, journal
    try:
        yield
    finally:
        _current = before
