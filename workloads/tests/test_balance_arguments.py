"""What calls are sent, and what they may do to it: what joblib's processes ("loky") give them, and nothing else."""

import copy
import operator
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from calls import nothing_left
from distributed import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed, parallel_config
from scipy import sparse
from sklearn.datasets import make_regression
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor

from tritoncluster.balance import Sharing, balanced_map
from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.arrays import READ_ONLY_BYTES, ChangedArgumentError
from tritoncluster.balance.chunks import _Calls, pack_chunk
from tritoncluster.balance.contents import SHARED_BYTES, Contents

#: Numbers in an array that is sent with each call; shared, but not large; and large.
SMALL, SHARED, LARGE = 10, SHARED_BYTES // 8 + 100, READ_ONLY_BYTES // 8 + 100


class Reduced:
    """An object that is made anew by a function of its own."""

    def __init__(self, values: list[float]) -> None:
        self.numbers = values

    def __reduce__(self) -> Any:
        return Reduced, (self.numbers,)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def mapped(folder: Path) -> np.ndarray:
    np.save(folder / "array.npy", np.arange(float(LARGE)))
    return np.load(folder / "array.npy", mmap_mode="r")


MAKERS: dict[str, Callable[[Path], Any]] = {
    "small": lambda _: np.arange(float(SMALL)),
    "shared": lambda _: np.arange(float(SHARED)),
    "large": lambda _: np.arange(float(LARGE)),
    "fortran": lambda _: np.asfortranarray(np.arange(2.0 * LARGE).reshape(2, LARGE)),
    "strided": lambda _: np.arange(4.0 * LARGE).reshape(-1, 2)[:, 0],
    "view": lambda _: np.arange(4.0 * LARGE)[LARGE : 3 * LARGE],
    "read-only": lambda _: read_only(np.arange(float(SHARED))),
    "broadcast": lambda _: np.broadcast_to(np.arange(10.0), (SHARED, 10)),
    "map": mapped,
    "list": lambda _: [float(number) for number in range(3000)],
    "dict": lambda _: {"a": [1.0, 2.0], "b": np.arange(float(SHARED))},
    "frame": lambda _: pd.DataFrame({"a": np.arange(float(LARGE)), "b": 1.0}),
    "sparse": lambda _: sparse.csr_matrix(np.eye(300)),
    "nested": lambda _: [np.arange(float(LARGE)), {"x": [1.0] * 2000}, (np.arange(3.0),)],
    "alias": lambda _: [[1.0, 2.0]] * 2,
    "reduced": lambda _: Reduced([float(number) for number in range(3000)]),
    "masked": lambda _: np.ma.masked_greater(np.arange(float(SHARED)), 5.0),
    "text": lambda _: "a" * 20_000,
}
KINDS = list(MAKERS)


def made(kind: str, folder: Path) -> Any:
    """Make an object of a kind."""
    return MAKERS[kind](folder)


def leaves(thing: Any) -> list[Any]:
    """List the arrays and lists of numbers in an object."""
    if isinstance(thing, pd.DataFrame | np.ndarray):
        return [thing]
    if isinstance(thing, sparse.csr_matrix):
        return [thing.data]
    if isinstance(thing, Reduced):
        return [thing.numbers]
    if isinstance(thing, list | tuple) and thing and isinstance(thing[0], float):
        return [thing]
    parts = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else []
    return [leaf for each in parts for leaf in leaves(each)]


def change(thing: Any, place: int) -> list[str]:
    """Change one number of each leaf, where that is allowed; tell what happened."""
    told = []
    for leaf in leaves(thing):
        try:
            if isinstance(leaf, pd.DataFrame):
                leaf["a"] *= 2
            else:
                leaf[place % len(leaf)] += 1000.0
            told.append("changed")
        except ValueError as error:
            told.append("read-only" if "read-only" in str(error) else repr(error))
    return told


def content(thing: Any) -> Any:
    """Give what an object is, to be compared."""
    found = []
    for leaf in leaves(thing):
        values = leaf.to_numpy() if isinstance(leaf, pd.DataFrame) else np.asarray(leaf)
        found.append(
            (type(leaf).__name__.replace("memmap", "ndarray"), values.shape, float(values.sum()), values[-1].tolist())
        )
    return type(thing).__name__.replace("memmap", "ndarray"), found, thing if isinstance(thing, str) else None


def look_and_change(first: Any, second: Any, place: int) -> Any:
    """Look at two arguments, change the first, and look again: what others did to them must not show."""
    before = content(first), content(second), first is second
    told = change(first, place)
    return before, told, content(first), content(second)


def frozen(thing: Any) -> Any:
    """Make arrays of more than a megabyte read-only, as a call gets them."""
    for leaf in leaves(thing):
        if isinstance(leaf, np.ndarray) and leaf.nbytes > READ_ONLY_BYTES and not isinstance(leaf, np.ma.MaskedArray):
            leaf.flags.writeable = False
    return thing


def as_sent(first: Any, second: Any) -> tuple[Any, Any]:
    """Copy arguments as a pickle does."""
    copies = pickle.loads(pickle.dumps((first, second), protocol=5))  # noqa: S301 - made here
    read_only = {id(each): isinstance(each, np.memmap) for each in (first, second)}
    for original, each in zip((first, second), copies, strict=True):
        if read_only[id(original)]:
            each.flags.writeable = False
    return frozen(copies[0]), frozen(copies[1])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 5), st.integers(0, 1_000_000)),
        st.tuples(st.just("call"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("calls"), st.integers(0, 5), st.integers(0, 5)),
    ),
    min_size=2,
    max_size=6,
)


def programs(parallel: Any, kinds: list[str], program: list[Any], folder: Path) -> list[Any]:
    """Run a program of changes and calls of one `Parallel` object."""
    things = [made(kind, folder) for kind in kinds]
    found = []
    for kind, one, other in program:
        first, second = things[one % len(things)], things[other % len(things)]
        if kind == "change":
            change(first, other)
        else:
            number = 1 if kind == "call" else 4
            found.append(parallel(delayed(look_and_change)(first, second, place) for place in range(number)))
    return found


def reference(calls: Any) -> list[Any]:
    """Make calls with deep copies of their arguments."""
    return [function(*as_sent(*args[:2]), *args[2:]) for function, args, _ in calls]


def loaded(contents: Contents, *calls: Any) -> list[Any]:
    """Pack calls and make them, as a worker does, without one."""
    packer = Packer(contents)
    parcels = [packer.pack(call) for call in calls]
    items, _, functions = pickle.loads(pack_chunk([[parcel] for parcel in parcels], None, []))  # noqa: S301 - made here
    maker = _Calls(functions, [])
    return [maker.make(call) for (call,) in items]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), steps)
def test_calls_get_what_was_submitted_without_a_cluster(tmp_path: Path, kinds: list[str], program: list[Any]):
    contents = Contents()
    assert programs(lambda calls: loaded(contents, *calls), kinds, program, tmp_path) == programs(
        reference, kinds, program, tmp_path
    )


@pytest.mark.timeout(600)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), steps)
def test_calls_get_what_was_submitted(client: Client, tmp_path: Path, kinds: list[str], program: list[Any]):
    with parallel_config("balanced"), Parallel() as parallel:
        found = programs(parallel, kinds, program, tmp_path)
    assert found == programs(reference, kinds, program, tmp_path)


@pytest.mark.timeout(600)
def test_calls_get_what_lokys_get(client: Client, tmp_path: Path):
    # A change between two calls is for the test above: loky keeps the first content of its memory maps.
    found = []
    for backend in ("balanced", "loky"):
        calls = [delayed(look_and_change)(made(kind, tmp_path), [1.0] * 3000, 5) for kind in KINDS]
        with parallel_config(backend, n_jobs=2):
            found.append(Parallel(batch_size=1)(calls * 2))
    for kind, one, other in zip(KINDS * 2, *found, strict=True):
        assert one == other, kind


class Counter:
    """A callable with a state of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _item: int) -> int:
        self.calls += 1
        return self.calls

    def method(self, _item: int) -> int:
        return self(_item)


def test_regressions_that_work_in_place_find_what_they_find_alone(client: Client):
    samples, targets = make_regression(n_samples=200, n_features=20, n_targets=6, noise=1.0, random_state=0)
    samples = samples + 5.0

    def work(backend: str) -> np.ndarray:
        with parallel_config(backend, n_jobs=2):
            model = MultiOutputRegressor(Ridge(copy_X=False), n_jobs=2).fit(samples, targets)
        return np.stack([each.coef_ for each in model.estimators_])

    before = samples.copy()
    there = work("balanced")
    assert np.array_equal(samples, before)
    alone = np.stack([Ridge().fit(samples, target).coef_ for target in targets.T])
    assert np.allclose(there, alone)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("size", [SMALL, SHARED, LARGE])
def test_memory_maps_lose_no_writing_in_silence(client: Client, tmp_path: Path, mode: str, size: int):
    np.save(tmp_path / "a.npy", np.ones(size))
    mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)
    if mode == "c":
        mapped[0] = 7.0

    def write(array: np.ndarray) -> Any:
        seen = float(array[0])
        try:
            array[0] = 2.0
        except ValueError as error:
            return seen, "read-only" in str(error)
        return seen, float(array[0])

    with parallel_config("balanced"):
        found = Parallel()(delayed(write)(each) for each in (mapped, mapped, np.asarray(mapped)))
    assert found == [(7.0, 2.0) if mode == "c" else (1.0, True)] * 3


def test_joblibs_options_for_memory_maps_hold(client: Client):
    def writes(array: np.ndarray) -> bool:
        return bool(array.flags.writeable)

    for options, expected in [({}, [True, False]), ({"max_nbytes": None}, [True, True])]:
        with parallel_config("balanced"):
            assert Parallel(**options)(delayed(writes)(np.ones(size)) for size in (SHARED, LARGE)) == expected
    with parallel_config("balanced"):
        assert Parallel(mmap_mode="c")([delayed(writes)(np.ones(LARGE))]) == [True]
        assert Parallel(max_nbytes="1K")([delayed(writes)(np.ones(SHARED))]) == [False]


STATE = {"factor": 1}
FACTOR = 1


def test_functions_are_what_they_were_when_calls_were_submitted(client: Client):
    space: dict[str, Any] = {"__name__": "__main__"}
    counter = Counter()
    closure = 1

    def closed(number: int) -> int:
        return closure * number

    def with_attribute(_number: int) -> int:
        with_attribute.calls = getattr(with_attribute, "calls", 0) + 1
        return with_attribute.calls

    found = []
    with parallel_config("balanced"), Parallel() as parallel:

        def call(function: Any, *args: Any) -> None:
            # One by one: joblib takes some tasks of an iterator before it submits the first.
            found.extend(parallel([delayed(function)(*args)]))

        for factor in (1, 10, 100):
            # As in a notebook, whose cells define the same name again, and change what it refers to.
            exec(f"factor, parts = {factor}, [{factor}]\ndef f(x):\n    return x * factor + parts[0]", space)  # noqa: S102
            call(space["f"], 1)
            space["parts"][0] += 1
            call(space["f"], 1)
            space["factor"] = 0
            call(space["f"], 1)
            closure = factor
            call(closed, 1)
            call(lambda: closure)  # noqa: B023 - on purpose: the variable is read when the call is submitted
            call(counter, 1)
            call(counter.method, 1)
            call(with_attribute, 1)
            counter.calls += 10
        again = parallel(delayed(closed)(number) for number in range(3))
    expected = []
    for step, factor in enumerate((1, 10, 100)):
        expected += [2 * factor, 2 * factor + 1, factor + 1, factor, factor, 10 * step + 1, 10 * step + 1, 1]
    assert found == expected
    assert again == [0, 100, 200]
    assert (counter.calls, with_attribute.__dict__) == (30, {})


def test_a_map_calls_its_function_as_it_was(client: Client):
    counter, table = Counter(), list(range(3000))
    looks = partial(look_and_change, table, [1.0])
    results = balanced_map(looks, range(6), client)
    counts = balanced_map(counter, range(6), client)
    table[0] = counter.calls = 5
    assert all(result == (look_and_change(list(range(3000)), [1.0], place)) for place, result in enumerate(results))
    assert list(counts) == [1] * 6
    data = np.arange(float(LARGE))
    items = ([number, data] for number in range(3))
    for number, (first, array) in enumerate(balanced_map(lambda item: (item[0], float(item[1][0])), items, client)):
        assert (first, array) == (number, 0.0)


def test_what_is_shared_over_calls_is_content(client: Client):
    data, table = np.zeros(SHARED), [0.0] * 3000

    def total(*things: Any) -> list[float]:
        return [float(np.sum(thing)) for thing in things]

    with Sharing(client) as sharing:
        for step in range(3):
            results = list(balanced_map(partial(total, data, table), [data, data], client, sharing=sharing))
            assert results == [[SHARED * step, step, SHARED * step]] * 2
            data += 1
            table[0] += 1
    assert nothing_left(client)


def test_results_have_nothing_to_do_with_each_other(client: Client):
    cache = [1.0, 2.0]

    def same() -> list[float]:
        return joblib.__dict__.setdefault("cache", cache)

    with parallel_config("balanced"):
        first, *others = Parallel()(delayed(same)() for _ in range(20))
    first.append(3.0)
    assert others == [[1.0, 2.0]] * 19
    assert len({id(each) for each in others}) == 19


def test_identity_within_a_call_is_kept(client: Client):
    table, array = [1.0] * 3000, np.ones(SHARED)

    def same(one: Any, other: Any, *, third: Any) -> tuple[bool, bool]:
        return one is other, third[0] is one

    with parallel_config("balanced"):
        for thing in (table, array, {"a": 1}):
            assert Parallel()(delayed(same)(thing, thing, third=[thing]) for _ in range(4)) == [(True, True)] * 4
            assert Parallel()([delayed(same)(thing, copy.copy(thing), third=[thing])]) == [(False, True)]


def test_large_arrays_that_change_while_calls_are_submitted_are_right_or_refused(monkeypatch: pytest.MonkeyPatch):
    array = np.zeros(LARGE)
    contents = Contents()
    # Each change is seen while there is time to look.
    packer = Packer(contents)
    found = []
    for step in range(20):
        array[step] = 1.0
        found.append(packer.pack((operator.itemgetter(0), (array,), {})))
    assert [sum(np.frombuffer(each.pickled.memory[0].content.data)) for each in found] == list(range(1, 21))
    # When there is none, the calls that may have been sent what they should not are refused.
    monkeypatch.setattr("tritoncluster.balance.arrays.COMPARING_SECONDS", -1.0)
    monkeypatch.setattr("tritoncluster.balance.arrays.COMPARING_SHARE", 0.0)
    packer = Packer(contents)
    calls = [packer.pack((operator.itemgetter(0), (array,), {})) for _ in range(3)]
    packer.settle()
    calls.append(packer.pack((operator.itemgetter(0), (array,), {})))
    array[-1] = 5.0
    with pytest.raises(ChangedArgumentError, match="give each call a copy"):
        packer.settle()
    assert len({id(each.pickled.memory[0].content) for each in calls}) == 1


def test_what_is_answered_is_let_go_of(client: Client):
    alive: list[Any] = []

    def arrays() -> Any:
        for number in range(300):
            array = np.full(SHARED * 50, float(number))
            alive.append(weakref.ref(array))
            yield array

    largest = 0
    for number, result in enumerate(balanced_map(operator.itemgetter(0), arrays(), client)):
        assert result == number
        if number % 50 == 49:
            largest = max(largest, len(client.futures))
            assert sum(ref() is not None for ref in alive) < 10
    assert largest < 20
    assert nothing_left(client)


@pytest.mark.parametrize("size", [LARGE, 5 * LARGE])
def test_shared_argument_is_not_kept_by_the_scheduler(client: Client, monkeypatch: pytest.MonkeyPatch, size: int):
    monkeypatch.setattr("tritoncluster.balance.broadcast.PART_BYTES", 2 * READ_ONLY_BYTES)
    data = np.arange(float(size))

    def kept_by_scheduler(dask_scheduler: Any) -> int:
        return sum(len(pickle.dumps(task.run_spec)) for task in dask_scheduler.tasks.values() if task.run_spec)

    with parallel_config("balanced"):
        results = Parallel(return_as="generator")(delayed(operator.getitem)(data, number) for number in range(200))
        assert next(results) == 0.0
        assert client.run_on_scheduler(kept_by_scheduler) < READ_ONLY_BYTES
        assert list(results) == list(range(1, 200))
    assert nothing_left(client)
