import os
import platform
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.config
import joblib
import psutil
import pytest
from distributed import Client
from joblib import delayed, parallel_config
from remote import Remote, remote
from threadpoolctl import threadpool_info

from tritoncluster.balance import BalancedBackend
from tritoncluster.cluster import connect
from tritoncluster.errors import ClusterLostError, ClusterUnusableError, InputError, JobStoppedError
from tritoncluster.jobs import Job
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.record import describe_workers, measure, to_json

JOBS: list[Job] = [Forest(trees=300), GridSearch(samples=1500), AsianOption(paths=300_000)]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    with remote(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def comparable(result: dict) -> dict:
    # Times of fits differ from run to run.
    return {key: value for key, value in result.items() if key != "cv_results"}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_killed_worker_costs_time_not_the_result(client: Client, job: Job):
    undisturbed = comparable(job.run(client).to_json())
    victim = next(iter(client.run(os.getpid).values()))
    killed = threading.Event()

    def kill_once(_stage: str, done: int, _total: int) -> None:
        if done and not killed.is_set():
            killed.set()
            os.kill(victim, signal.SIGKILL)

    assert comparable(job.run(client, kill_once).to_json()) == undisturbed
    assert killed.is_set()
    client.wait_for_workers(2, timeout=120)
    assert victim not in client.run(os.getpid).values()


def test_embedded_workers_are_processes_with_one_thread(client: Client):
    pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert set(client.nthreads().values()) == {1}

    def threads_of_libraries() -> list[int]:
        return [library["num_threads"] for library in threadpool_info()]

    for libraries in client.run(threads_of_libraries).values():
        assert libraries
        assert set(libraries) == {1}


def test_embedded_cluster_listens_on_loopback_only(client: Client):
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in ours
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert client.scheduler.address.startswith("tcp://127.0.0.1:")


def test_one_worker_does_the_work(cluster_of: Callable[[int], Client]):
    client = cluster_of(1)
    with parallel_config(BalancedBackend(client)):
        pids = joblib.Parallel()(delayed(os.getpid)() for _ in range(3))
    assert set(pids) == set(client.run(os.getpid).values())


def test_two_clients_at_once(elsewhere: Remote):
    def run(seed: int) -> float:
        with Client(elsewhere.address, set_as_default=False) as client:
            return AsianOption(paths=40_000, seed=seed).run(client).estimate.mean

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, [1, 2])
    assert first == run(1)
    assert second == run(2)


def test_configured_scheduler_is_used(elsewhere: Remote):
    with dask.config.set({"scheduler-address": elsewhere.address}), connect() as client:
        assert client.scheduler.address == elsewhere.address
        with pytest.raises(InputError, match="leave them out"), connect(workers=3):
            pass


def test_silent_scheduler_is_named_with_what_to_check():
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never says a word
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with (
            dask.config.set({"scheduler-address": address}),
            pytest.raises(ClusterUnusableError, match=f"no scheduler answers at {address}.*; check that it runs"),
            connect(timeout="1 s"),
        ):
            pass


def test_cluster_without_workers_is_refused(tmp_path: Path):
    with (
        remote(tmp_path, workers=0) as empty,
        dask.config.set({"scheduler-address": empty.address}),
        pytest.raises(ClusterUnusableError, match=f"the scheduler at {empty.address} has no workers"),
        connect(timeout="1 s"),
    ):
        pass


def test_other_versions_are_refused(tmp_path: Path):
    # The cluster's Python finds the record of another release before the real one.
    record = tmp_path / "other" / "tritoncluster-9.8.7.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: tritoncluster\nVersion: 9.8.7\n")
    with (
        remote(tmp_path, environment={"PYTHONPATH": str(tmp_path / "other")}) as other,
        dask.config.set({"scheduler-address": other.address}),
        pytest.raises(ClusterUnusableError, match=r"versions differ .*tritoncluster is .* here, 9\.8\.7 on"),
        connect(),
    ):
        pass


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_lost_scheduler_stops_the_job_with_what_is_finished(tmp_path: Path, job: Job):
    with (
        remote(tmp_path) as doomed,
        dask.config.set({"scheduler-address": doomed.address}),
        connect() as client,
    ):

        def kill(stage: str, done: int, _total: int) -> None:
            if done and stage != "final fit":
                doomed.scheduler.kill()

        with dask.config.set({"distributed.comm.timeouts.connect": "1 s"}):
            record = measure(client, job, kill)
        assert isinstance(record.stopped, ClusterLostError)
        assert "the scheduler went away" in str(record.stopped)
        content = to_json([record])
        assert content["finished"] is False
        if job.name == "asian-option":
            assert 0 < content["result"]["paths"] < job.paths


def test_error_in_a_call_is_raised_once_with_the_workers_traceback(client: Client):
    def fail() -> None:
        raise KeyError("what happened")

    with parallel_config(BalancedBackend(client)), pytest.raises(KeyError, match="what happened"):
        joblib.Parallel()(delayed(fail)() for _ in range(5))
    with parallel_config(BalancedBackend(client)):
        assert joblib.Parallel()(delayed(abs)(-number) for number in range(5)) == [0, 1, 2, 3, 4]


def test_call_that_kills_its_workers_ends_the_job(client: Client):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        parallel_config(BalancedBackend(client)),
        pytest.raises(Exception, match="Attempted to run task"),
    ):
        joblib.Parallel()(delayed(os._exit)(1) for _ in range(1))
    client.wait_for_workers(2, timeout=120)


def test_failed_job_keeps_what_is_finished(client: Client):
    option = AsianOption(paths=300_000)

    def fail(_stage: str, done: int, _total: int) -> None:
        if done > 20:
            raise ValueError("no more")

    with pytest.raises(JobStoppedError) as caught:
        option.run(client, fail)
    assert isinstance(caught.value.__cause__, ValueError)
    assert 0 < caught.value.result.estimate.paths < 300_000


def test_workers_are_described(client: Client):
    workers = describe_workers(client)
    assert [worker.name for worker in workers] == ["0", "1"]
    assert {worker.architecture for worker in workers} == {platform.machine()}
    assert all(worker.memory_bytes > 0 for worker in workers)
