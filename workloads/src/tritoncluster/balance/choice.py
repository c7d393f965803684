"""Which workers runs may use, where it is not all of them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_chosen: ContextVar[frozenset[str] | None] = ContextVar("chosen workers", default=None)


@contextmanager
def only_workers(names: Collection[str]) -> Iterator[None]:
    """Let the runs that start inside use the workers of these names alone; others get neither calls nor data."""
    token = _chosen.set(frozenset(names))
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen_workers() -> frozenset[str] | None:
    """Give the names of the workers that a run may use, None for all."""
    return _chosen.get()
