"""What ends a run, and who hears of it; runs that overlap, and runs inside tasks."""

import asyncio
import functools
import itertools
import os
import threading
import time
from typing import Any

import pytest
from calls import nothing_left, slow_square, square
from distributed import Client, wait
from joblib import Parallel, delayed, parallel_config

from tritoncluster.balance import balanced_map
from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.chunks import load_answer, pack_chunk, run_chunk
from tritoncluster.balance.contents import Contents
from tritoncluster.errors import ClusterLostError


class StopAll(BaseException):
    """A user's own."""


class WantingError(Exception):
    """Can't be made of its `args` alone."""

    def __init__(self, code: int, *, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class HoldingError(ValueError):
    """Can't be pickled whole."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.kept = 7


class UnreadableError(Exception):
    """Fails where it is made again."""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise SystemExit(9)


RAISED = [
    (lambda: StopAll("three"), StopAll, "three"),
    (lambda: asyncio.CancelledError("three"), asyncio.CancelledError, "three"),
    (lambda: SystemExit("three"), SystemExit, "three"),
    (lambda: KeyboardInterrupt("three"), KeyboardInterrupt, "three"),
    (lambda: GeneratorExit("three"), GeneratorExit, "three"),
    (lambda: WantingError(3, text="three"), WantingError, "three"),
    (lambda: HoldingError("three"), HoldingError, "three"),
    (lambda: UnreadableError("three"), UnreadableError, "three"),
    (lambda: ExceptionGroup("three", [ValueError(1), WantingError(2, text="two")]), ExceptionGroup, "three"),
    (lambda: OSError(2, "three", "file"), FileNotFoundError, "three"),
    (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "three"), UnicodeDecodeError, "three"),
    # A generator can't raise it: Python makes this of it, for loky's caller too.
    (lambda: StopIteration("three"), RuntimeError, "StopIteration"),
]


def raise_at(number: int, which: int) -> int:
    if number == 3:
        make, *_ = RAISED[which]
        raise make()
    return number


@pytest.mark.parametrize("which", range(len(RAISED)), ids=[str(kind.__name__) for _, kind, _ in RAISED])
def test_whatever_a_call_raises_its_caller_gets_and_no_worker(client: Client, which: int):
    _, kind, text = RAISED[which]
    pids = client.run(os.getpid)
    with parallel_config("balanced"), pytest.raises(kind, match=text) as caught:
        Parallel()(delayed(raise_at)(number, which) for number in range(6))
    if kind is not RuntimeError:
        assert "in raise_at" in "".join(caught.value.__notes__)
    if kind is HoldingError:
        assert caught.value.kept == 7
    if kind is WantingError:
        assert caught.value.code == 3
    found = []
    with pytest.raises(kind, match=text):
        found.extend(itertools.islice(balanced_map(lambda number: raise_at(number, which), range(6), client), 10))
    assert client.run(os.getpid) == pids
    assert nothing_left(client)


def test_results_before_the_failing_call_of_a_chunk_count(client: Client):
    packer = Packer(Contents())
    calls = [[packer.pack((raise_at, (number, 0), {}))] for number in range(6)]
    answer = load_answer(client.submit(run_chunk, pack_chunk(calls, None, []), "chunk", key="chunk").result())
    assert [each.values for each in answer.results] == [[0], [1], [2]]
    assert len(answer.seconds) == 3
    assert isinstance(answer.failure.error, StopAll)


@pytest.mark.parametrize("thing", [UnreadableError(), threading.Lock()], ids=["unreadable", "lock"])
def test_arguments_that_cant_be_made_again(client: Client, thing: Any):
    with parallel_config("balanced"), pytest.raises((TypeError, SystemExit)):
        Parallel()([delayed(len)([thing])])
    with pytest.raises((TypeError, SystemExit)):
        list(balanced_map(id, [thing], client))
    assert list(balanced_map(square, range(3), client)) == [0, 1, 4]


def test_results_that_cant_be_made_again(client: Client):
    # They are unpickled by the thread that asks for them, here.
    with parallel_config("balanced"), pytest.raises(SystemExit):
        Parallel()([delayed(UnreadableError)()])
    with pytest.raises(SystemExit):
        list(balanced_map(lambda _item: UnreadableError(), range(3), client))


def test_parallel_objects_overlap(client: Client):
    with parallel_config("balanced"):
        first = Parallel(return_as="generator")(delayed(square)(number) for number in range(6))
        found = [(value, sum(Parallel()(delayed(square)(j) for j in range(3)))) for value in first]
        assert found == [(number**2, 5) for number in range(6)]
        pairs = zip(
            Parallel(return_as="generator")(delayed(square)(number) for number in range(50)),
            Parallel(return_as="generator")(delayed(square)(number) for number in range(50)),
            strict=True,
        )
        assert list(pairs) == [(number**2,) * 2 for number in range(50)]
    maps = zip(balanced_map(square, range(50), client), balanced_map(square, range(50), client), strict=True)
    assert list(maps) == [(number**2,) * 2 for number in range(50)]


def test_parallel_call_in_the_generator_of_tasks(client: Client):
    def tasks() -> Any:
        for number in range(4):
            yield delayed(square)(sum(Parallel()(delayed(square)(j) for j in range(number))))

    with parallel_config("balanced"):
        assert Parallel()(tasks()) == [0, 0, 1, 25]
        assert Parallel(pre_dispatch=1)(tasks()) == [0, 0, 1, 25]


def test_threads_share_a_backend(client: Client):
    found: dict[int, list[int]] = {}
    with parallel_config("balanced"):
        backend = Parallel()._backend

    def work(offset: int) -> None:
        with parallel_config(backend):
            found[offset] = Parallel()(delayed(square)(offset + number) for number in range(30))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {offset: [(offset + number) ** 2 for number in range(30)] for offset in (0, 100, 200)}


def test_generator_of_tasks_that_fails(client: Client):
    def tasks(error: BaseException) -> Any:
        yield from (delayed(square)(number) for number in range(3))
        raise error

    for error in (KeyError("of the generator"), StopAll("of the generator")):
        for options in ({}, {"pre_dispatch": 2}):
            with parallel_config("balanced"), pytest.raises(type(error), match="of the generator"):
                Parallel(**options)(tasks(error))
    assert nothing_left(client)


def nested(kind: str) -> int:
    if kind == "map":
        return sum(balanced_map(square, range(10)))
    with parallel_config("balanced"):
        return sum(Parallel()(delayed(square)(number) for number in range(10)))


@pytest.mark.parametrize("kind", ["map", "joblib"])
def test_inside_a_dask_task(client: Client, kind: str):
    # As many as there are threads: none is left that could make the calls.
    futures = client.map(nested, [kind] * 3, pure=False)
    wait(futures, timeout=100)
    assert client.gather(futures) == [285] * 3
    del futures
    assert nothing_left(client)


@pytest.mark.parametrize("kind", ["map", "joblib"])
def test_inside_a_call_it_is_sequential(client: Client, kind: str):
    assert list(balanced_map(nested, [kind] * 4, client)) == [285] * 4
    with parallel_config("balanced"):
        assert Parallel()(delayed(nested)(kind) for _ in range(4)) == [285] * 4


def test_asynchronous_client_is_refused_at_the_call(client: Client):
    async def work() -> None:
        async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as other:
            with pytest.raises(TypeError, match="asynchronous"):
                balanced_map(square, range(3), other)
            from tritoncluster.balance import BalancedBackend

            with pytest.raises(TypeError, match="asynchronous"):
                BalancedBackend(other)

    asyncio.run(work())


def test_map_checks_what_it_is_given_at_the_call(client: Client):
    with pytest.raises(TypeError, match="function to call"):
        balanced_map(3, [1], client)
    with pytest.raises(TypeError, match="iterable"):
        balanced_map(square, 3, client)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        balanced_map(lambda _number: lock, range(3), client)
    assert nothing_left(client)


def test_cancelled_tasks_are_told_as_such(client: Client):
    # Long enough for none to be finished when it is cancelled.
    results = balanced_map(functools.partial(slow_square, seconds=1), itertools.count(), client)
    next(results)
    client.cancel([future for key, future in _futures(client) if key.startswith("slow_square")], force=True)
    with pytest.raises(ClusterLostError, match="cancelled"):
        list(results)
    assert nothing_left(client)


def _futures(client: Client) -> Any:
    from distributed import Future

    return [(key, Future(key, client)) for key in list(client.futures)]


def test_scheduler_that_answers_nonsense_ends_the_run(client: Client):
    def break_it(dask_scheduler: Any) -> None:
        handlers = dask_scheduler.handlers
        handlers["true identity"] = handlers["identity"]
        handlers["identity"] = lambda **_options: {"workers": {"tcp://127.0.0.1:1": {"status": "running"}}}

    def mend_it(dask_scheduler: Any) -> None:
        dask_scheduler.handlers["identity"] = dask_scheduler.handlers.pop("true identity")

    results = balanced_map(slow_square, itertools.count(), client)
    next(results)
    client.run_on_scheduler(break_it)
    try:
        with pytest.raises(KeyError, match="name"):
            list(results)
    finally:
        client.run_on_scheduler(mend_it)


def test_restarted_cluster_is_told_as_such(cluster_of: Any):
    client = cluster_of(2)
    # Long ones: a run goes on that has nothing on a worker at that moment.
    results = balanced_map(lambda number: slow_square(number, 1.0), range(200), client)
    next(results)
    client.restart()
    with pytest.raises(ClusterLostError, match="restarted"):
        list(results)
    assert list(balanced_map(square, range(10), client)) == [number**2 for number in range(10)]


def test_worker_that_dies_with_the_only_copy_of_an_argument(cluster_of: Any):
    import numpy as np

    client = cluster_of(2)
    data = np.arange(1e6)

    def work(array: Any, number: int) -> float:
        time.sleep(0.05)
        return float(array[number])

    def holders(dask_scheduler: Any) -> list[str]:
        found = [task for key, task in dask_scheduler.tasks.items() if str(key).startswith("~argument-")]
        return [worker.address for task in found for worker in task.who_has]

    with parallel_config("balanced"):
        results = Parallel(return_as="generator")(delayed(work)(data, number) for number in range(120))
        found = list(itertools.islice(results, 5))
        # All that have it, one after the other, are gone.
        for address in client.run_on_scheduler(holders):
            client.run(os._exit, 1, workers=[address], on_error="ignore")
        found += results
    assert found == list(range(120))
