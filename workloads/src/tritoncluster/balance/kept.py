"""A run's items in a journal: found there when they are added, put there when they are answered.

A call is kept by itself, since calls are put together by how long they take, which differs from run to run. Where
something is made of the results of an item's calls together, the item is kept as a whole.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from tritoncluster.balance.arguments import Parcel
from tritoncluster.balance.chunks import Answered
from tritoncluster.balance.fingerprints import DoubtError, Fingerprints, together
from tritoncluster.journal import Journal, UnknownCodeError

REMEDY = (
    "nobody can say whether what is in it will be the same: send its content as an argument, or name the file with "
    "--with and find it with tritoncluster.submit.local_path"
)
#: A result that nobody uses.
_NOTHING = pickle.dumps(None, protocol=5)


@dataclass(frozen=True)
class Kept:
    """An item's answer that is on disk, until somebody asks for it."""

    load: Callable[[], Answered]
    nbytes: int
    calls: int

    @cached_property
    def answered(self) -> Answered:
        """The answer, as a worker gave it in an earlier run."""
        return self.load()

    @property
    def parts(self) -> tuple[Any, ...]:
        """As `Answered` has them."""
        return self.answered.parts

    @property
    def values(self) -> list[Any]:
        """As `Answered` has them."""
        return self.answered.values


class Keeper:
    """Keeps the items of a run.

    Parameters
    ----------
    journal
        Where.
    afterwards
        A call that is made on the worker, with the results of an item as its first argument.
    keep_results
        Whether anybody uses the results themselves, beside what `afterwards` makes of them.
    """

    def __init__(self, journal: Journal, afterwards: Parcel | None, *, keep_results: bool) -> None:
        self._journal, self._keep_results = journal, keep_results
        self._fingerprints = Fingerprints(journal.surroundings.digest)
        self._afterwards = afterwards
        # In what surroundings, and its fingerprint there.
        self._known_afterwards = b"", b""

    def keys(self, parcels: Sequence[Parcel]) -> tuple[bytes, ...]:
        """Give the keys of an item; none when nobody can say what its calls depend on."""
        try:
            fingerprints = list(map(self._fingerprints.of, parcels))
            if self._afterwards:
                parts = [
                    self._fingerprint_of_afterwards(self._afterwards),
                    b"+" if self._keep_results else b"",
                    *fingerprints,
                ]
                fingerprints = [together(parts)]
        except UnknownCodeError as error:
            self._journal.doubt(len(parcels), f"nobody can say where all the code of the module {error} is")
        except DoubtError as error:
            self._journal.doubt(len(parcels), f"{error}")
        else:
            return tuple(map(self._journal.key, fingerprints))
        return ()

    def _fingerprint_of_afterwards(self, afterwards: Parcel) -> bytes:
        base = self._journal.surroundings.base
        if self._known_afterwards[0] != base:
            self._known_afterwards = base, self._fingerprints.of(afterwards)
        return self._known_afterwards[1]

    def find(self, keys: Sequence[bytes], calls: int) -> Kept | None:
        """Give the answer of an item of so many calls, None if it is not there."""
        if not keys or (nbytes := self._journal.find(list(keys))) is None:
            return None
        return Kept(partial(self._load, keys, calls), nbytes, calls)

    def keep(self, keys: Sequence[bytes], answered: Answered) -> None:
        """Have an item's answer written, soon."""
        if not keys:
            return
        if answered.opened:
            self._journal.doubt(len(keys), f"a call {answered.opened}; {REMEDY}")
        elif self._afterwards is None:
            for key, part in zip(keys, answered.parts, strict=True):
                self._put(key, (part,), pickled=answered.pickled)
        elif self._keep_results:
            self._put(keys[0], answered.parts, pickled=answered.pickled)
        else:
            self._put(keys[0], answered.parts[-1:], pickled=answered.pickled)

    def _put(self, key: bytes, parts: tuple[Any, ...], *, pickled: bool) -> None:
        nbytes = sum(map(len, parts)) if pickled else 0
        # Not in this thread, which is that of the event loop.
        self._journal.keep(key, nbytes, partial(pickle.dumps, (parts, pickled), protocol=5))

    def _load(self, keys: Sequence[bytes], calls: int) -> Answered:
        # A file of this user's alone, as the journal has made sure.
        found = [pickle.loads(self._journal.load(key)) for key in keys]  # noqa: S301
        parts = [part for parts, _ in found for part in parts]
        pickled = [each for parts, each in found for _ in parts]
        if self._afterwards and not self._keep_results:
            parts[:0], pickled[:0] = [_NOTHING] * calls, [True] * calls
        if not any(pickled):
            return Answered(tuple(parts), pickled=False)
        pairs = zip(parts, pickled, strict=True)
        return Answered(tuple(part if done else pickle.dumps(part) for part, done in pairs), pickled=True)
