"""The backend "balanced" and balanced_map on real clusters; joblib's own tests are in test_joblib_suite.py."""

import itertools
import multiprocessing
import os
import random
import threading
import time
from functools import partial

import numpy as np
import pytest
from calls import nothing_left, slow_square, square
from distributed import Client
from joblib import Parallel, delayed, parallel_backend, parallel_config
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.svm import SVC

from tritoncluster.balance import BalancedBackend, Sharing, balanced_map, observed

X, y = make_classification(n_samples=200, random_state=0)
GRID = {"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "poly"]}


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise KeyError(f"what happened at {number}")
    return number


def draw() -> float:
    return random.random()  # noqa: S311 - no secrets


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize(
    "work",
    [
        lambda: GridSearchCV(SVC(), GRID, cv=3).fit(X, y).cv_results_["mean_test_score"],
        lambda: RandomForestClassifier(40, random_state=0).fit(X, y).predict_proba(X),
        lambda: cross_val_score(SVC(), X, y, cv=5),
        lambda: cross_val_score(RandomForestClassifier(10, random_state=0, n_jobs=2), X, y, cv=3),
        lambda: permutation_importance(SVC().fit(X, y), X, y, random_state=0).importances,
        lambda: (
            HalvingGridSearchCV(SVC(random_state=0), GRID, cv=3, random_state=0)
            .fit(X, y)
            .cv_results_["mean_test_score"]
        ),
    ],
    ids=["grid", "forest", "cross-validation", "nested", "permutations", "halving"],
)
def test_scikit_learn_finds_what_it_finds_here(client: Client, work):
    with parallel_config("balanced"):
        there = work()
    assert np.array_equal(there, work())
    assert nothing_left(client)


@pytest.mark.parametrize("context", [parallel_config, parallel_backend])
def test_backend_has_a_name(client: Client, context):
    with context("balanced"):
        assert Parallel()(delayed(square)(number) for number in range(50)) == [square(number) for number in range(50)]
        assert isinstance(Parallel()._backend, BalancedBackend)


def test_without_a_client_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def none() -> Client:
        raise ValueError("No global client found")

    monkeypatch.setattr("tritoncluster.balance.joblib.get_client", none)
    with pytest.raises(ValueError, match="create a Dask client first"), parallel_config("balanced"):
        pass


def test_options_of_other_backends_are_refused(client: Client):
    with pytest.raises(TypeError, match="scatter"), parallel_config("balanced", scatter=[X]):
        pass


def test_error_is_raised_once_and_the_backend_goes_on(client: Client):
    with parallel_config("balanced"), Parallel() as parallel:
        with pytest.raises(KeyError, match="what happened at 70") as caught:
            parallel(delayed(fail_at)(number, 70) for number in range(200))
        notes = "".join(caught.value.__notes__)
        assert "on worker" in notes
        assert "in fail_at" in notes
        assert parallel(delayed(square)(number) for number in range(20)) == [square(number) for number in range(20)]
    assert nothing_left(client)


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generator(client: Client, return_as: str):
    with parallel_config("balanced"):
        results = Parallel(return_as=return_as)(delayed(square)(number) for number in range(100))
        assert next(results) is not None
        rest = list(results)
    if return_as == "generator":
        assert rest == [square(number) for number in range(1, 100)]
    assert len(rest) == 99


def test_unordered_generator_gives_the_fastest_first(client: Client):
    with parallel_config("balanced"):
        results = Parallel(return_as="generator_unordered")(
            delayed(wait)(1.0 if number == 0 else 0.01) for number in range(5)
        )
        assert list(results)[-1] == 1.0


@pytest.mark.filterwarnings("ignore:.*tasks .*:UserWarning")
def test_generator_left_early_leaves_nothing_behind(client: Client):
    with parallel_config("balanced"):
        results = Parallel(return_as="generator")(delayed(slow_square)(number) for number in range(300))
        assert next(results) == 0
        del results
    assert nothing_left(client)


def test_calls_of_one_function_are_not_taken_for_the_same(client: Client):
    with parallel_config("balanced"):
        first, second = Parallel()(delayed(draw)() for _ in range(2))
    assert first != second


def test_arguments_are_copies(client: Client):
    lists: list[list[int]] = [[] for _ in range(30)]

    def append(into: list[int]) -> list[int]:
        into.append(1)
        return into

    with parallel_config("balanced"):
        assert Parallel()(delayed(append)(each) for each in lists) == [[1]] * 30
    assert lists == [[]] * 30


def test_large_argument_is_one_task_for_all_calls(client: Client):
    data = np.arange(1e5)

    def arguments_there(dask_scheduler) -> int:
        return sum(str(key).startswith("~argument-") for key in dask_scheduler.tasks)

    def total(values: np.ndarray, number: int, again: np.ndarray) -> float:
        return values[number] + again[0]

    with Sharing(client) as sharing, parallel_config(BalancedBackend(client, sharing=sharing)):
        assert Parallel()(delayed(total)(data, i, again=data) for i in range(20)) == list(range(20))
        assert client.run_on_scheduler(arguments_there) == 1
        assert Parallel()(delayed(total)(data[:10], i, again=data[:3]) for i in range(10)) == list(range(10))
        assert client.run_on_scheduler(arguments_there) == 1
    assert nothing_left(client)


def test_timeout_of_joblib(client: Client):
    with parallel_config("balanced"), pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.3)(delayed(time.sleep)(2) for _ in range(4))
    assert nothing_left(client)


def test_batches_of_the_caller_are_kept_together(client: Client):
    with parallel_config("balanced"):
        pids = Parallel(batch_size=10)(delayed(os.getpid)() for _ in range(40))
    assert all(len(set(pids[start : start + 10])) == 1 for start in range(0, 40, 10))


def test_parallel_call_inside_a_call_stays_in_its_thread(client: Client):
    def inside() -> set[int]:
        return {os.getpid(), *Parallel(n_jobs=4)(delayed(os.getpid)() for _ in range(4))}

    with parallel_config("balanced"):
        assert all(len(pids) == 1 for pids in Parallel()(delayed(inside)() for _ in range(4)))


@pytest.mark.parametrize("ordered", [True, False])
def test_map(client: Client, ordered: bool):  # noqa: FBT001 - pytest's way
    found = list(balanced_map(square, range(500), client, ordered=ordered))
    assert (found if ordered else sorted(found)) == [square(number) for number in range(500)]


def test_map_of_nothing(client: Client):
    assert list(balanced_map(square, [], client)) == []


def test_endless_map_ends_when_it_is_left(client: Client):
    results = balanced_map(square, itertools.count(), client)
    assert list(itertools.islice(results, 50)) == [square(number) for number in range(50)]
    results.close()
    assert nothing_left(client)


@pytest.mark.parametrize("ordered", [True, False])
def test_results_are_there_before_slow_items_end(client: Client, ordered: bool):  # noqa: FBT001 - pytest's way
    """As of a sensor: the room for items alone would let the first result wait for an hour."""
    taken = []

    def sensor():
        for number in itertools.count():
            taken.append(number)
            yield number
            # It has some at first.
            time.sleep(0.2 if number >= 200 else 0)

    results = balanced_map(square, sensor(), client, ordered=ordered)
    assert len(list(itertools.islice(results, 200))) == 200
    assert len(taken) < 300
    results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_what_ends_the_items_comes_after_the_results_of_those_before(client: Client, ordered: bool):  # noqa: FBT001
    def items():
        yield from range(50)
        raise KeyError("as it must")

    given: list[int] = []
    with pytest.raises(KeyError, match="as it must"):
        given.extend(balanced_map(square, items(), client, ordered=ordered))
    assert sorted(given) == [number**2 for number in range(50)]


def test_map_shares_what_the_function_brings(client: Client):
    data = np.arange(1e5)
    assert list(balanced_map(partial(np.take, data), range(100), client)) == list(range(100))
    assert list(balanced_map(lambda index: data[index], range(100), client)) == list(range(100))


def test_map_raises_what_a_call_raised(client: Client):
    with pytest.raises(KeyError, match="what happened at 30"):
        list(balanced_map(partial(fail_at, bad=30), range(100), client))
    lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        list(balanced_map(lambda _number: lock, range(3), client))
    assert nothing_left(client)


def test_who_did_what_is_told(client: Client):
    with observed() as summaries:
        list(balanced_map(slow_square, range(100), client))
    (summary,) = summaries
    assert summary.name == "slow_square"
    assert summary.work == 100
    assert sum(share.items - share.repeats for share in summary.shares.values()) == 100
    assert all(share.rate > 0 for share in summary.shares.values())
    assert 0 < summary.efficiency < 1.1


def test_forest_of_the_digits_is_the_same_on_any_backend(client: Client):
    digits, classes = load_digits(return_X_y=True)
    here = RandomForestClassifier(20, random_state=3).fit(digits, classes)
    with parallel_config("balanced"):
        there = RandomForestClassifier(20, random_state=3).fit(digits, classes)
    assert all(
        np.array_equal(one.tree_.threshold, other.tree_.threshold)
        for one, other in zip(here.estimators_, there.estimators_, strict=True)
    )
