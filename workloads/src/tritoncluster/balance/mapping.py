"""A map over the workers of a cluster that are nothing alike."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from distributed import Client, get_client

from tritoncluster.balance.arguments import Pickled
from tritoncluster.balance.broadcast import Sharing
from tritoncluster.balance.chunks import in_call
from tritoncluster.balance.driver import Options
from tritoncluster.balance.outcomes import Failure, Result
from tritoncluster.balance.queue import PATIENCE
from tritoncluster.balance.run import Run, check_client
from tritoncluster.weight import weight_of

#: Items that are with the cluster, or wait here to be taken in order, at any time.
MAX_ITEMS = 20_000
#: Of these, how many have to be answered before more are taken.
BATCH = 100
#: Seconds for which items are taken at a time while a result waits for who asked for it.
TAKE = 0.01


def balanced_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    client: Client | None = None,
    *,
    ordered: bool = True,
    cost: Callable[[Any], float] | None = None,
    sharing: Sharing | None = None,
    patience: float = PATIENCE,
    weight: float | None = None,
) -> Generator[Any, None, None]:
    """Call `function(item)` for each item on the cluster; fast workers make more of the calls.

    Calls are made in chunks of about equal time; one may be made twice, so it should do nothing but return a value. An
    iterator that is left early, as by an error or Ctrl-C, ends the work on the cluster. Inside a call of another map,
    or of the backend "balanced", the calls are made there, one after the other.

    Each call gets the function as it was when the map was asked for, its item as it was when it was taken from `items`,
    and both for itself: what it does to them, nobody else sees. Arrays of more than a megabyte are read-only.

    Parameters
    ----------
    function
        May be a `functools.partial`. What it brings, arguments or a closure, travels once to each worker if it is
        large.
    items
        May be without end. They are taken no faster than they are computed, and their results consumed; results are
        yielded between two of them, also where each is long in coming.
    client
        Whose cluster to use; by default Dask's current client.
    ordered
        Whether to yield results in the order of the items, or as they come.
    cost
        Gives an item's length, in any unit: long ones are started first.
    sharing
        Where large arguments are; by default they leave the workers at the end.
    patience
        Seconds before which no chunk is a straggler.
    weight
        The map's share of workers that others use, too, relative to theirs: from 0.1 to 10. By default what Dask's
        configuration has as `tritoncluster.weight`, or 1.

    Yields
    ------
    object
        Each result once.

    Raises
    ------
    TypeError
        When there is nothing to call or to iterate over, or the client is asynchronous.
    ValueError
        When there is no client, or the weight is none.
    ClusterLostError
        When the scheduler goes away, or lets go of the tasks.
    WorkersLostError
        When workers die of a call.
    NoWorkersError
        When none comes.
    Exception
        What ended the items, after the results of those before.
    BaseException
        What a call raised, with the worker's traceback as a note.

    Examples
    --------
    >>> from tritoncluster.balance import Sharing, balanced_map
    >>> from tritoncluster.cluster import connect
    >>> with connect(workers=2) as client:
    ...     list(balanced_map(abs, [-1, 2, -3], client))
    [1, 2, 3]

    Long items first, and results as they come:

    >>> with connect(workers=2) as client:
    ...     sorted(balanced_map(len, ["a", "bbb", "cc"], client, ordered=False, cost=len))
    [1, 2, 3]

    A large table that several maps need stays on the workers between them:

    >>> import functools, operator
    >>> table = list(range(100_000))
    >>> with connect(workers=2) as client, Sharing(client) as sharing:
    ...     look_up = functools.partial(operator.getitem, table)
    ...     first = list(balanced_map(look_up, [5, 6], client, sharing=sharing))
    ...     second = list(balanced_map(look_up, [7], client, sharing=sharing))
    >>> first + second
    [5, 6, 7]
    """
    if not callable(function):
        raise TypeError(f"balanced_map needs a function to call, not {function!r}")
    iterator = iter(items)
    if in_call():
        return _sequential(function, iterator)
    client = client or get_client()
    check_client(client)
    options = Options(patience=patience, bounded=True, ordered=ordered, weight=weight_of(weight))
    own = None
    if sharing is None:
        own = sharing = Sharing(client)
    run = Run(client, function, sharing, options)
    results = _results(run, function, _Source(run, iterator, cost), own, ordered=ordered)
    next(results)  # nothing: from here on, it ends the run, whatever happens
    return results


class _Source:
    """Takes items from where they come from, no faster than they are computed and consumed.

    Attributes
    ----------
    added : int
        The number of items that were taken.
    exhausted : bool
        Whether no more come.
    error : Exception or None
        What they ended with; results of those before come first, as from Python's own map.
    """

    def __init__(self, run: Run, items: Iterator[Any], cost: Callable[[Any], float] | None) -> None:
        self._run, self._items, self._cost = run, items, cost
        self.added = 0
        self.exhausted = False
        self.error: Exception | None = None
        self._rested = -math.inf

    def feed(self, function: Pickled, given: int, *, at_hand: bool = False) -> None:
        """Add calls of items, when so many results have been given.

        Items may be long in coming: while a result is at hand, or waits to be looked at, that takes half of the time.
        """
        begin = time.monotonic()
        if self.exhausted or self.added - given > MAX_ITEMS - BATCH:
            return
        if begin < self._rested and (at_hand or self._run.has_outcome):
            return
        while self.added - given < MAX_ITEMS and self._run.has_room and not self.exhausted:
            self._take(function)
            if (at_hand or self._run.has_outcome) and time.monotonic() >= begin + TAKE:
                break
        # Whoever has the items may change them next.
        self._run.settle()
        if self.exhausted:
            self._run.complete()
        end = time.monotonic()
        self._rested = end + (end - begin)

    def _take(self, function: Pickled) -> None:
        try:
            item = next(self._items)
        except StopIteration:
            self.exhausted = True
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in its turn
            self.exhausted, self.error = True, error
        else:
            self._run.add([(function, (item,), {})], self._cost(item) if self._cost else 1.0)
            self.added += 1


def _results(
    run: Run, function: Any, source: _Source, own: Sharing | None, *, ordered: bool
) -> Generator[Any, None, None]:
    # Of results that came before it was their turn, and are still pickled.
    early: dict[int, Result] = {}
    given = 0

    def at_hand() -> bool:
        return given in early if ordered else bool(early)

    try:
        pickled = run.function(function)
        yield
        source.feed(pickled, given)
        run.start()
        while outcome := run.outcome():
            if isinstance(outcome, Failure):
                raise outcome.error
            early[outcome.item] = outcome
            source.feed(pickled, given, at_hand=at_hand())
            while at_hand():
                result = early.pop(given if ordered else next(iter(early)))
                run.took(result)
                given += 1
                yield result.results[0]
                source.feed(pickled, given, at_hand=at_hand())
        if not source.exhausted or given < source.added:
            raise RuntimeError(f"{source.added - given} of {source.added} results are missing: a fault of ours")
        if source.error:
            raise source.error
    finally:
        run.end()
        early.clear()
        if own:
            own.release()


def _sequential(function: Callable[[Any], Any], items: Iterator[Any]) -> Generator[Any, None, None]:
    for item in items:
        yield function(item)
