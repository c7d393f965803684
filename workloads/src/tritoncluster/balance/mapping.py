"""A map over the workers of a cluster that are nothing alike."""

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from distributed import Client, get_client

from tritoncluster.balance.pieces import Call, Sharing, name_of
from tritoncluster.balance.queue import PATIENCE
from tritoncluster.balance.run import Failure, Run

#: Items that are with the cluster, or wait here to be taken in order, at any time.
MAX_ITEMS = 20_000


def balanced_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    client: Client | None = None,
    *,
    ordered: bool = True,
    cost: Callable[[Any], float] | None = None,
    sharing: Sharing | None = None,
    patience: float = PATIENCE,
) -> Iterator[Any]:
    """Call `function(item)` for each item on the cluster; fast workers make more of the calls.

    Calls are made in pieces of about equal time; one may be made twice, so it should do nothing but return a value. An
    iterator that is left early, as by an error or Ctrl-C, ends the work on the cluster.

    Parameters
    ----------
    function
        May be a `functools.partial`. What it brings, arguments or a closure, travels once to each worker if it is
        large.
    items
        May be without end.
    client
        Whose cluster to use; by default Dask's current client.
    ordered
        Whether to yield results in the order of the items, or as they come.
    cost
        Gives an item's length, in any unit: long ones are started first.
    sharing
        Where large arguments are; by default they leave the workers at the end.
    patience
        Seconds before which no piece is overdue.

    Yields
    ------
    object
        Each result once.

    Raises
    ------
    ClusterLostError
        When the scheduler goes away.
    WorkersLostError
        When workers die of a call.
    Exception
        What a call raised, with the worker's traceback as a note.
    """
    client = client or get_client()
    own = sharing or Sharing(client)
    run = Run(client, name_of(function), own, patience=patience)
    try:
        call = _caller(function, own)
        yield from _results(run, call, iter(items), cost, ordered=ordered)
    finally:
        run.end()
        if sharing is None:
            own.release()


def _results(
    run: Run,
    call: Callable[[Any], Call],
    items: Iterator[Any],
    cost: Callable[[Any], float] | None,
    *,
    ordered: bool,
) -> Iterator[Any]:
    def feed(number: int) -> None:
        batch = list(islice(items, number))
        for item in batch:
            run.add([call(item)], cost(item) if cost else 1.0)
        if len(batch) < number:
            run.complete()

    feed(MAX_ITEMS)
    run.start()
    early: dict[int, Any] = {}
    following = 0
    while outcome := run.outcome():
        if isinstance(outcome, Failure):
            raise outcome.error
        if not ordered:
            feed(1)
            yield outcome.results[0]
            continue
        early[outcome.item] = outcome.results[0]
        while following in early:
            feed(1)
            yield early.pop(following)
            following += 1


def _caller(function: Callable[..., Any], sharing: Sharing) -> Callable[[Any], Call]:
    """Give what makes a call of an item."""
    if isinstance(function, functools.partial):
        inner, args, kwargs = function.func, function.args, function.keywords
        for argument in (*args, *kwargs.values()):
            sharing.share_if_large(argument)
        return lambda item: (inner, (*args, item), kwargs)
    if sharing.share_if_large(function):
        return lambda item: (_apply, (function, item), {})
    return lambda item: (function, (item,), {})


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
