import asyncio
import doctest
import os
import platform
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dask.config
import joblib
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.comm import connect as comm_connect
from distributed.deploy.spec import SpecCluster
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


def test_embedded_cluster_leaves_the_callers_own_alone():
    before = dict(dask.config.config["distributed"]["scheduler"]["active-memory-manager"])
    # The cluster that tests share may be there, too.
    method = dask.config.get("distributed.worker.multiprocessing-method")
    with pytest.raises(KeyboardInterrupt), connect(workers=1) as client:  # noqa: PT012 - that is the case
        assert dask.config.config["distributed"]["scheduler"]["active-memory-manager"] == before
        assert not client.amm.running()
        own = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=False)
        raise KeyboardInterrupt
    assert dask.config.get("distributed.worker.multiprocessing-method") == method
    with own, Client(own, set_as_default=False) as client:
        assert own in SpecCluster._instances
        pids = client.run(os.getpid)
        assert client.submit(sum, [1, 2]).result(timeout=200) == 3
        assert client.run(os.getpid) == pids


def test_workers_that_are_copies_of_one_process_draw_their_own_random_numbers(client: Client):
    drawn = client.run(lambda: (float(np.random.random()), random.random()))  # noqa: NPY002, S311 - what tasks may use
    assert len(drawn) == 2
    for numbers in zip(*drawn.values(), strict=True):
        assert len(set(numbers)) == 2


def parents(client: Client) -> set[int]:
    return set(client.run(os.getppid).values())


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux alone")
def test_workers_see_the_environment_of_now(cluster_of: Callable[[int], Client], monkeypatch: pytest.MonkeyPatch):
    copied = parents(cluster_of(1))
    assert copied.isdisjoint({os.getpid()})
    monkeypatch.setenv("SET_MEANWHILE", "yes")
    client = cluster_of(1)
    assert parents(client) == copied
    assert list(client.run(os.getenv, "SET_MEANWHILE").values()) == ["yes"]


def test_a_program_that_changes_what_libraries_read_at_their_start_gets_workers_that_start_anew(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from tritoncluster.cluster import connect\n"
        "from threadpoolctl import threadpool_info\n"
        "def threads():\n"
        "    return sorted({library['num_threads'] for library in threadpool_info()}), os.getenv('GONE')\n"
        "os.environ['GONE'] = 'set'\n"
        "for number in ('1', '2'):\n"
        "    os.environ['OPENBLAS_NUM_THREADS'] = os.environ['OMP_NUM_THREADS'] = number\n"
        "    with connect(workers=1) as client:\n"
        "        print(client.submit(threads).result())\n"
        "    os.environ.pop('GONE', None)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.splitlines() == ["([1], 'set')", "([2], None)"], done.stderr


def test_where_workers_can_not_be_copied_they_start_by_themselves(tmp_path: Path):
    # Sockets have no longer names than 107 bytes.
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    program = (
        "from tritoncluster.cluster import connect\nwith connect(workers=1) as c: print(c.submit(sum, [1, 2]).result())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(folder)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout == "3\n", done.stderr


@pytest.mark.parametrize("way", ["script", pytest.param("module", marks=pytest.mark.slow), "stdin"])
def test_program_without_guard_runs_once(tmp_path: Path, way: str):
    code = (
        "print('ran as', __name__, flush=True)\n"
        "from tritoncluster.cluster import connect\n"
        "class Number:\n    def __init__(self, value):\n        self.value = value\n"
        "def square(number):\n    return Number(number.value ** 2)\n"
        "with connect(workers=1) as client:\n"
        "    client.restart()\n"
        "    answer = client.submit(square, Number(3)).result()\n"
        "    print(answer.value, isinstance(answer, Number))\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "program.py").write_text(code)
    words = {"script": ["package/program.py"], "module": ["-m", "package.program"], "stdin": ["-"]}[way]
    done = subprocess.run(
        [sys.executable, *words], input=code, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "ran as __main__\n9 True\n", done.stderr
    assert done.returncode == 0


def test_examples_of_connect_are_right():
    (examples,) = doctest.DocTestFinder().find(connect, "connect", globs={"__name__": "__main__"})
    assert doctest.DocTestRunner().run(examples) == doctest.TestResults(failed=0, attempted=4)


def refusal(address: str) -> str:
    with (
        dask.config.set({"scheduler-address": address}),
        pytest.raises(ClusterUnusableError) as caught,
        connect(timeout="1 s"),
    ):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_silent_scheduler_is_named_with_what_to_check():
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never says a word
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert refusal(address).startswith(
            f"no scheduler answers at {address} (it accepted the connection but did not answer in 1 s); check that it"
        )


@pytest.mark.parametrize(
    ("greeting", "answer", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", b"", "something else answers there: 'SSH-2.0-OpenSSH_9.9'"),
        (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server answers there); give the scheduler's port"),
        (b"\0\0", b"", "something else answers there"),
    ],
)
def test_something_else_than_a_scheduler_is_named(greeting: bytes, answer: bytes, expected: str):
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)
            self.request.settimeout(5)
            with suppress(OSError):
                self.request.recv(1000)
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            assert expected in refusal(f"tcp://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("desktop", "an address is like tcp://desktop:8786"),
        ("tcp://desktop", "an address is like tcp://desktop:8786"),
        ("tcp://desktop:port", "an address is like tcp://desktop:8786"),
        ("tcp://desktop:99999", "there is no port 99999); a scheduler's is mostly 8786"),
        ("http://desktop:8787", "does not begin with http://); an address is like"),
        ("tls://desktop:8786", "tls:// needs a certificate); name ca.crt, tls.crt and tls.key"),
        ("tcp://127.0.0.1:1", "(Connection refused); check that it runs"),
    ],
)
def test_address_that_can_not_be_right_is_named(address: str, expected: str):
    assert expected in refusal(address)


def test_tls_where_there_is_none_and_none_where_there_is(elsewhere: Remote, tmp_path: Path):
    key, certificate = str(tmp_path / "key"), str(tmp_path / "crt")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    tls = "distributed.comm.tls"
    files = {f"{tls}.ca-file": certificate, f"{tls}.client.cert": certificate, f"{tls}.client.key": key}
    with dask.config.set(files):
        assert "does not use TLS); write tcp://" in refusal(elsewhere.address.replace("tcp:", "tls:"))
    environment = {
        f"DASK_DISTRIBUTED__COMM__TLS__{name}": value
        for name, value in {"CA_FILE": certificate, "SCHEDULER__CERT": certificate, "SCHEDULER__KEY": key}.items()
    }
    with remote(tmp_path / "tls", workers=0, environment=environment, protocol="tls") as secure:
        assert "uses TLS); write tls://" in refusal(secure.address.replace("tls:", "tcp:"))


def test_client_with_another_python_is_refused(elsewhere: Remote):
    async def ask(python: str) -> str:
        comm = await comm_connect(elsewhere.address)
        versions = {"packages": {"python": python}}
        await comm.write({"op": "register-client", "client": "other", "reply": False, "versions": versions})
        (answer,) = await comm.read()
        comm.abort()
        return answer.get("error", "")

    ours = ".".join(map(str, sys.version_info[:2]))
    assert asyncio.run(ask(f"{ours}.0.final.0")) == ""
    for other in ("2.7.18.final.0", "3.10.4.final.0", "3.99.0.final.0"):
        minor = ".".join(other.split(".")[:2])
        assert f"its Python is {minor}, the cluster's is {ours}" in asyncio.run(ask(other))


def test_cluster_without_workers_is_refused(tmp_path: Path):
    with (
        remote(tmp_path, workers=0) as empty,
        dask.config.set({"scheduler-address": empty.address}),
        pytest.raises(ClusterUnusableError, match=f"the scheduler at {empty.address} has no workers"),
        connect(timeout="1 s"),
    ):
        pass


@pytest.mark.slow
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


# The forest is too large to be finished before anybody hears of its first trees.
@pytest.mark.parametrize("job", [Forest(trees=5000), *JOBS[1:]], ids=lambda job: job.name)
def test_lost_scheduler_stops_the_job_with_what_is_finished(tmp_path: Path, job: Job):
    with (
        remote(tmp_path) as doomed,
        dask.config.set({"scheduler-address": doomed.address, "tritoncluster.wait": "0s"}),
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
