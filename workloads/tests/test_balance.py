"""The backend "balanced" and balanced_map on real clusters; joblib's own tests are in test_joblib_suite.py."""

import asyncio
import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from joblib import Parallel, delayed, parallel_backend, parallel_config
from remote import Remote, remote
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.svm import SVC

from tritoncluster.balance import BalancedBackend, Sharing, balanced_map, observed
from tritoncluster.balance.connection import Connection
from tritoncluster.balance.crew import Piece, Worker
from tritoncluster.balance.pieces import Answer
from tritoncluster.errors import WorkersLostError

X, y = make_classification(n_samples=200, random_state=0)
#: For workers to find the functions of this module.
IMPORTS = {"PYTHONPATH": str(Path(__file__).parent)}
GRID = {"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "poly"]}


def square(number: int) -> int:
    return number * number


def slow_square(number: int, seconds: float = 0.02) -> int:
    time.sleep(seconds)
    return number * number


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise KeyError(f"what happened at {number}")
    return number


def draw() -> float:
    return random.random()  # noqa: S311 - no secrets


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def nothing_left(client: Client) -> bool:
    """Wait until no task and no data of this client is on the cluster."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(client.has_what().values()) and not any(client.processing().values()) and not client.futures:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    with remote(tmp_path_factory.mktemp("cluster"), workers=2, environment=IMPORTS) as cluster:
        yield cluster


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
        return sum(str(key).startswith("argument-") for key in dask_scheduler.tasks)

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


def test_another_client_knows_the_speeds(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as first:
        list(balanced_map(slow_square, range(100), first))
    with Client(elsewhere.address, set_as_default=False) as second:
        deadline = time.monotonic() + 10
        while not (known := second.get_metadata(["tritoncluster-speeds", "slow_square"], {})):
            assert time.monotonic() < deadline
        assert len(known) == 2
        assert all(20 < speed <= 51 for speed in known.values())


def large_at(when: float) -> np.ndarray:
    time.sleep(max(0.0, when - time.time()))
    return np.ones(3_000_000)


def test_answer_that_nobody_wants_any_more_takes_no_other_with_it(client: Client):
    # The client brings answers that come at once in one go.
    async def wanted(forgotten: int) -> list[object]:
        ended: dict[Piece, object] = {}
        connection = Connection(client, "large", sharing, None, ended.__setitem__)
        when = time.time() + 0.3
        workers = [Worker(address, address, 1) for address in await connection.workers()]
        pieces = [Piece(worker, (0,), 1.0) for worker in workers]
        for piece in pieces:
            connection.send(piece, [[(large_at, (when,), {})]])
        # The client learns of both at once, when its event loop goes on.
        await asyncio.sleep(0.2)
        time.sleep(max(0.0, when - time.time()) + 0.3)  # noqa: ASYNC251
        while not any(  # noqa: ASYNC110 - the client has no event for it
            future.status == "finished" and key.startswith("large") for key, future in client.futures.items()
        ):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        connection.forget(pieces[forgotten])
        for _ in range(600):
            if pieces[not forgotten] in ended:
                break
            await asyncio.sleep(0.05)
        return [ended[pieces[not forgotten]]]

    with Sharing(client) as sharing:
        for forgotten in [0, 1] * 4:
            (answer,) = client.sync(wanted, forgotten)
            assert isinstance(answer, Answer), answer
    assert nothing_left(client)


def test_killed_worker(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as client:
        pids = client.run(os.getpid)
        found = []
        for result in balanced_map(slow_square, range(200), client):
            if len(found) == 20:
                os.kill(next(iter(pids.values())), signal.SIGKILL)
            found.append(result)
        assert found == [square(number) for number in range(200)]
        client.wait_for_workers(2, timeout=60)


def test_hung_worker_is_given_up(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        pid = next(iter(client.run(os.getpid).values()))
        try:
            found = []
            for result in balanced_map(slow_square, range(400), client, patience=1.0):
                if len(found) == 20:
                    os.kill(pid, signal.SIGSTOP)
                found.append(result)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert found == [square(number) for number in range(400)]


def test_added_worker_takes_part(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        before = set(client.run(os.getpid).values())
        results = balanced_map(lambda _item: time.sleep(0.05) or os.getpid(), itertools.count(), client, ordered=False)
        next(results)
        late = elsewhere.add_worker()
        try:
            deadline = time.monotonic() + 60
            while (pid := next(results)) in before:
                assert time.monotonic() < deadline
        finally:
            results.close()
            late.terminate()
            late.wait()
        assert pid not in before


def test_call_that_takes_its_workers_down_ends_the_map(tmp_path: Path):
    with (
        remote(tmp_path, workers=1) as cluster,
        Client(cluster.address, set_as_default=False) as client,
        pytest.raises(WorkersLostError, match="exit on 4 workers"),
    ):
        list(balanced_map(os._exit, [1], client))


def test_first_worker_is_waited_for(tmp_path: Path):
    with (
        remote(tmp_path, workers=0, environment=IMPORTS) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        impatient = parallel_config(BalancedBackend(client, wait_for_workers_timeout=1.0))
        with impatient, pytest.raises(TimeoutError, match="no worker has come in 1 s"):
            Parallel()(delayed(square)(number) for number in range(3))
        late = threading.Timer(0.5, lambda: cluster.workers.append(cluster.add_worker()))
        late.start()
        with parallel_config(BalancedBackend(client)):
            assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        late.join()


def test_fast_worker_does_more(client: Client):
    slow = min(client.run(os.getpid).values())

    def work(_item: int) -> int:
        time.sleep(0.08 if os.getpid() == slow else 0.01)
        return os.getpid()

    counts = Counter(balanced_map(work, range(200), client))
    assert counts[slow] < 60


def test_forest_of_the_digits_is_the_same_on_any_backend(client: Client):
    digits, classes = load_digits(return_X_y=True)
    here = RandomForestClassifier(20, random_state=3).fit(digits, classes)
    with parallel_config("balanced"):
        there = RandomForestClassifier(20, random_state=3).fit(digits, classes)
    assert all(
        np.array_equal(one.tree_.threshold, other.tree_.threshold)
        for one, other in zip(here.estimators_, there.estimators_, strict=True)
    )
