"""Workers that are slow, come late, hang or are killed while a map runs on them."""

import itertools
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from calls import IMPORTS, nothing_left, slow_square, square
from distributed import Client
from joblib import Parallel, delayed, parallel_config
from remote import Remote, remote

from tritoncluster.balance import BalancedBackend, balanced_map
from tritoncluster.errors import WorkersLostError


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    with remote(tmp_path_factory.mktemp("cluster"), workers=2, environment=IMPORTS) as cluster:
        yield cluster


def test_fast_worker_does_more(client: Client):
    slow = min(client.run(os.getpid).values())

    def work(_item: int) -> int:
        time.sleep(0.08 if os.getpid() == slow else 0.01)
        return os.getpid()

    counts = Counter(balanced_map(work, range(200), client))
    assert counts[slow] < 60


def test_what_a_worker_that_gets_slow_has_not_begun_is_taken_by_another(client: Client):
    slow = min(client.run(os.getpid).values())
    later = time.time() + 1.0

    def slowed(_item: int) -> bool:
        late = os.getpid() == slow and time.time() > later
        time.sleep(0.5 if late else 0.01)
        return late

    # It has some twenty calls when it gets slow.
    assert sum(balanced_map(slowed, range(400), client)) <= 12
    assert nothing_left(client)


def test_another_client_knows_the_speeds(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as first:
        list(balanced_map(slow_square, range(100), first))
    with Client(elsewhere.address, set_as_default=False) as second:
        deadline = time.monotonic() + 100
        while not (known := second.get_metadata(["tritoncluster-speeds", "calls.slow_square"], {})):
            assert time.monotonic() < deadline
        assert len(known) == 2
        # Each call sleeps for 0.02 s.
        assert all(0 < speed <= 51 for speed in known.values())


def test_killed_worker(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as client:
        pids = client.run(os.getpid)
        found = []
        for result in balanced_map(slow_square, range(200), client):
            if len(found) == 20:
                os.kill(next(iter(pids.values())), signal.SIGKILL)
            found.append(result)
        assert found == [square(number) for number in range(200)]
        client.wait_for_workers(2, timeout=200)


# With the longer patience nobody gives it up for being late alone, but others wait for it.
@pytest.mark.parametrize(("items", "patience"), [(400, 1.0), (200, 10_000.0)], ids=["given_up", "found_out"])
def test_hung_worker_is_not_waited_for(elsewhere: Remote, items: int, patience: float):
    with Client(elsewhere.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=200)
        pid = next(iter(client.run(os.getpid).values()))
        try:
            found = []
            for result in balanced_map(slow_square, range(items), client, patience=patience):
                if len(found) == 20:
                    os.kill(pid, signal.SIGSTOP)
                found.append(result)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert found == [square(number) for number in range(items)]


def test_added_worker_takes_part(elsewhere: Remote):
    with Client(elsewhere.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=200)
        before = set(client.run(os.getpid).values())
        results = balanced_map(lambda _item: time.sleep(0.05) or os.getpid(), itertools.count(), client, ordered=False)
        next(results)
        late = elsewhere.add_worker()
        try:
            deadline = time.monotonic() + 180
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


@pytest.mark.slow
def test_workers_that_were_told_to_go_are_nobodys_fault(tmp_path: Path):
    go = tmp_path / "go"

    def wait(_item: int) -> str:
        while not go.exists():
            time.sleep(0.05)
        return "gone on"

    with (
        remote(tmp_path / "cluster", workers=5) as cluster,
        Client(cluster.address, set_as_default=False) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        result = thread.submit(list, balanced_map(wait, [1], client))
        try:
            # One more than Dask allows of those that a task has killed.
            for _ in range(4):
                deadline = time.monotonic() + 200
                while not (at_work := [address for address, tasks in client.processing().items() if tasks]):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                client.retire_workers(at_work)
        finally:
            go.touch()
        assert result.result(timeout=60) == ["gone on"]


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
