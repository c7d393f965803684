"""Dask tasks of a job: their results as they come, and an end when the scheduler goes away."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from distributed import Client, Future, as_completed

from tritoncluster.errors import ClusterLostError


def completed(
    client: Client, futures: Iterable[Future[Any]], *, at_once: int | None = None
) -> Iterator[tuple[Future[Any], Any]]:
    """Yield each future and its result when it finishes; at the end, whatever the reason, cancel the rest.

    Keep no other reference to a future, and its result leaves the worker's memory once it is here.

    Parameters
    ----------
    client
        Whose futures they are.
    futures
        May be an iterator that submits a task for each item.
    at_once
        Take only so many before the first has finished, then one for each that has: a long job's tasks neither fill the
        scheduler's memory, nor take long to cancel.

    Raises
    ------
    ClusterLostError
        When the scheduler goes away.
    """
    waiting = iter(futures)
    pending = as_completed(islice(waiting, at_once), loop=client.loop, with_results=True)
    try:
        for future, result in pending:
            if future.status == "cancelled":
                raise ClusterLostError
            pending.update(islice(waiting, 1))
            yield future, result
    finally:
        cancel(client, list(pending.futures))


def gather(client: Client, futures: Sequence[Future[Any]]) -> list[Any]:
    """Wait for all and give their results in order; errors as in `completed`."""
    results = {future.key: result for future, result in completed(client, futures)}
    return [results[future.key] for future in futures]


def cancel(client: Client, futures: Sequence[Future[Any]]) -> None:
    """Cancel `futures` without waiting for a scheduler that may be gone."""
    if futures and client.loop and client.status == "running":
        client.loop.add_callback(partial(client.cancel, futures, asynchronous=True))
