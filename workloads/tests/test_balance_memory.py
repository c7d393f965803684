"""What a run holds in the client: no more than belongs to results that nobody has taken yet."""

import gc
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest
from calls import nothing_left
from distributed import Client
from joblib import Parallel, delayed, parallel_config

from tritoncluster import balance
from tritoncluster.balance import balanced_map, mapping
from tritoncluster.balance.arguments import Parcel, Pickled
from tritoncluster.balance.chunks import Answered
from tritoncluster.balance.connection import Work
from tritoncluster.balance.model import Chunk, Item
from tritoncluster.balance.outcomes import Result

ITEMS, LOOKS, HELD = 3000, 3, 500
KINDS = {Parcel, Pickled, Answered, Work, Chunk, Item, Result}


def first(pair: list[int]) -> int:
    return pair[0]


def held() -> Counter[type]:
    """Count what runs hold, by type."""
    gc.collect()
    # A tuple that another thread is about to make is among all objects, and can't be made any more while somebody else
    # has hold of it: that thread gets a SystemError. So none goes on until the list is gone again.
    switching = sys.getswitchinterval()
    sys.setswitchinterval(0.5)
    # Who waits already waits as long as it was before.
    time.sleep(2 * switching)
    try:
        return Counter(type(each) for each in gc.get_objects() if type(each) in KINDS)
    finally:
        sys.setswitchinterval(switching)


def by_map(client: Client, *, ordered: bool) -> Iterator[int]:
    return balanced_map(first, ([number, 0] for number in range(ITEMS)), client, ordered=ordered)


def by_joblib(return_as: str) -> Iterator[int]:
    calls = (delayed(first)([number, 0]) for number in range(ITEMS))
    return iter(Parallel(return_as=return_as)(calls))


@pytest.mark.parametrize("way", ["ordered", "unordered", "generator", "generator_unordered"])
def test_what_is_held_belongs_to_what_nobody_has_taken(client: Client, monkeypatch: pytest.MonkeyPatch, way: str):
    monkeypatch.setattr(mapping, "MAX_ITEMS", HELD)
    before = held()
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{balance.__path__[0]}/*")]
    tracemalloc.start()
    try:
        with parallel_config("balanced"):
            results = by_joblib(way) if "generator" in way else by_map(client, ordered=way == "ordered")
            for taken, _ in enumerate(results, 1):
                if taken % (ITEMS // LOOKS):
                    continue
                now = held() - before
                # The last one is still in somebody's hands, and so may be the function.
                left = ITEMS - taken if "generator" in way else min(HELD, ITEMS - taken)
                assert all(number <= left + 100 for number in now.values()), (taken, now)
                snapshot = tracemalloc.take_snapshot().filter_traces(ours)
                assert sum(trace.size for trace in snapshot.traces) < 2000 * left + 500_000, taken
        del results
        assert nothing_left(client)
        assert all(number < 20 for number in (held() - before).values())
    finally:
        tracemalloc.stop()
