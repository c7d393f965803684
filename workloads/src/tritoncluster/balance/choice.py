"""Which workers runs may use, where it is not all of them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The workers that a run may use.

    Parameters
    ----------
    names
        Theirs.
    silence
        Seconds after which the run ends when none of them is there and answers; None to wait as other runs do.
    """

    names: frozenset[str]
    silence: float | None = None


_chosen: ContextVar[Choice | None] = ContextVar("chosen workers", default=None)


@contextmanager
def only_workers(names: Collection[str], *, silence: float | None = None) -> Iterator[None]:
    """Let the runs that start inside use the workers of these names alone; others get neither calls nor data.

    With `silence`, each of them is asked every few seconds whether it is well, and a run ends with a NoWorkersError
    when for so many seconds none was.
    """
    token = _chosen.set(Choice(frozenset(names), silence))
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen_workers() -> Choice | None:
    """Give the workers that a run may use, None for all."""
    return _chosen.get()
