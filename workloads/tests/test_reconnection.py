"""Schedulers that are killed, replaced, stopped: what outlives them, and what does not."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pytest
from calls import IMPORTS, nothing_left, square
from command import COMMAND, interrupt, tritoncluster
from distributed import Client
from remote import Remote, remote
from sklearn.ensemble import ExtraTreesClassifier
from test_cli import valid_result

from tritoncluster.balance import balanced_map, internals
from tritoncluster.cluster import connect
from tritoncluster.errors import ClusterLostError, InputError
from tritoncluster.jobs import silent
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.record import plain

#: Seconds between the end of a scheduler and the start of the next one.
AWAY = 2.0


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A scheduler with TLS, and two workers that are started anew when they end."""
    folder = tmp_path_factory.mktemp("room")
    key, certificate = str(folder / "key"), str(folder / "crt")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    tls = "distributed.comm.tls"
    roles = {f"{tls}.{role}": {"cert": certificate, "key": key} for role in ("scheduler", "worker", "client")}
    environment = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": certificate}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        environment |= {
            f"DASK_DISTRIBUTED__COMM__TLS__{role}__{what}": path for what, path in (("CERT", certificate), ("KEY", key))
        }
    with (
        dask.config.set({f"{tls}.ca-file": certificate, **roles}),
        remote(folder, workers=0, environment=IMPORTS | environment, protocol="tls") as room,
    ):
        room.environment = environment
        for _ in range(2):
            room.keep_worker()
        yield room


@pytest.fixture
def client(room: Remote) -> Iterator[Client]:
    """A client of it, when both workers are there."""
    with dask.config.set({"scheduler-address": room.address}), connect(timeout="200 s") as client:
        client.wait_for_workers(2, timeout=200)
        yield client


def replace(room: Remote, how: signal.Signals = signal.SIGKILL) -> None:
    """End the scheduler, and start the next one after a while."""
    room.kill_scheduler(how)
    time.sleep(AWAY)
    room.start_scheduler()


def logged_call(folder: str, number: int, data: Any = None) -> int:
    """Leave a line for each call."""
    with Path(folder, f"{number}").open("a") as log:
        log.write(f"{time.time()}\n")
    time.sleep(0.05)
    return number * number + (0 if data is None else int(data[number]))


class Calls:
    """Calls that leave a line each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begun_after(self, number: int, moment: float) -> list[float]:
        """Give when calls for a number began, of those after a moment."""
        return [begun for begun in map(float, (self.folder / f"{number}").read_text().split()) if begun > moment]


def test_a_map_goes_on_and_nothing_finished_is_computed_again(
    room: Remote, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = np.arange(300_000)
    folder = str(tmp_path)

    def work(number: int) -> int:
        return logged_call(folder, number, data)

    finished: set[int] = set()
    with ThreadPoolExecutor(1) as thread:
        results = []
        for result in balanced_map(work, range(400), client, ordered=False):
            results.append(result)
            if len(results) == 60:
                # What has come by now is finished; the next one may be on its way.
                finished = {number for number in range(400) if number * number + number in results}
                gone = time.time()
                replaced = thread.submit(replace, room)
        replaced.result()
    assert sorted(results) == [number * number + number for number in range(400)]
    calls = Calls(tmp_path)
    assert len(finished) == 60
    assert [number for number in finished if calls.begun_after(number, gone)] == []
    told = [record.getMessage() for record in caplog.records if record.name.endswith("reconnection")]
    assert [" is gone: waiting for it" in told[0], " is back after " in told[1], len(told)] == [True, True, 2]
    assert list(balanced_map(square, range(10), client)) == [number**2 for number in range(10)]
    assert nothing_left(client)


@pytest.mark.slow
def test_a_scheduler_that_is_lost_twice_and_between_two_calls(room: Remote, client: Client):
    data, target = np.random.default_rng(0).normal(size=(2000, 40)), np.arange(2000) % 3
    import joblib

    expected = ExtraTreesClassifier(40, random_state=0).fit(data, target).predict_proba(data)
    found = []
    with joblib.parallel_config("balanced", client=client):
        for how in (signal.SIGKILL, signal.SIGTERM):
            replace(room, how)
            # Its client may not know yet, or be connecting, and no worker is there.
            found.append(ExtraTreesClassifier(40, random_state=0).fit(data, target).predict_proba(data))
    assert all(np.array_equal(each, expected) for each in found)


@pytest.mark.slow
def test_a_job_of_the_command_line_has_the_same_result(room: Remote, client: Client, tmp_path: Path):
    words = ["run", "asian-option", "--paths", "300000", "--json"]
    expected = AsianOption(paths=300_000).run(client, silent).to_json()
    command = [*COMMAND, "--scheduler", room.address, *words, "--output", "out"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | room.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        at_work(client)
        replace(room)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert valid_result(tmp_path)["result"] == plain(expected)
    assert told.count(" is gone: waiting for it, up to 10 min") == told.count(" is back after ") == 1


def at_work(client: Client) -> None:
    """Wait until tasks run, of any client, and have done so for a moment."""
    while not any(client.processing().values()):
        time.sleep(0.1)
    time.sleep(0.5)


SCRIPT = """
import sys, time
import numpy as np
from distributed import Client
from tritoncluster.balance import balanced_map
from tritoncluster.submit import local_path
from helper import add

table = np.arange(200_000)

def work(number):
    import helper
    time.sleep(0.05)
    return add(int(table[number]), int(local_path("data.txt").read_text())) + helper.ONE

client = Client()
done = []
for result in balanced_map(work, range(300), client, ordered=False):
    done.append(result)
    if len(done) == 40:
        print("in the middle", flush=True)
print(sorted(done) == [number + 4 + 1 for number in range(300)])
"""


def submitted(room: Remote, folder: Path, script: str, when: Callable[[], None]) -> tuple[str, str, int]:
    """Submit a script, do something when it prints its first line; give its output, errors and status."""
    (folder / "script.py").write_text(script)
    command = [*COMMAND, "--scheduler", room.address, "submit", "--with", "data.txt", "script.py"]
    (folder / "data.txt").write_text("4")
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | room.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        when()
        out, told = process.communicate(timeout=300)
    return first + out, told, process.returncode


@pytest.mark.slow
def test_a_submitted_script_finds_its_files_on_the_next_scheduler(room: Remote, client: Client, tmp_path: Path):
    (tmp_path / "helper.py").write_text("ONE = 1\ndef add(*numbers):\n    return sum(numbers)\n")
    out, told, status = submitted(room, tmp_path, SCRIPT, lambda: replace(room))
    assert (out, status) == ("in the middle\nTrue\n", 0), told
    assert told.count(" is gone: waiting for it") == told.count(" is back after ") == 1


FUTURES = """
import time
from distributed import Client
client = Client()
waiting = client.submit(time.sleep, 1000)
client.submit(int).result()
print("started", flush=True)
waiting.result()
"""


def test_a_script_with_futures_of_dasks_gets_one_error(room: Remote, client: Client, tmp_path: Path):
    _, told, status = submitted(room, tmp_path, FUTURES, lambda: replace(room))
    assert status == 1
    assert [line for line in told.splitlines() if line.startswith("tritoncluster: ")] == [
        f"tritoncluster: {ClusterLostError('futures')}"
    ]
    assert "Traceback" not in told


def test_a_scheduler_that_does_not_return_ends_the_run(room: Remote, client: Client, tmp_path: Path):
    words = ["run", "asian-option", "--paths", "900000000", "--output", "out", "--wait", "2s"]

    def kill_it() -> None:
        at_work(client)
        room.kill_scheduler()

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill_it)
        done = tritoncluster(tmp_path, "--scheduler", room.address, *words, **room.environment)
        killing.result()
    room.start_scheduler()
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("tritoncluster: ")]
    assert len(failed) == 1
    assert "the scheduler went away while the job ran, and was not back in 2.00 s; run it again" in failed[0]


def test_ctrl_c_ends_the_waiting_and_keeps_what_is_finished(
    room: Remote, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in room.environment.items():
        monkeypatch.setenv(name, value)

    def kill_it() -> None:
        at_work(client)
        room.kill_scheduler()

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill_it)
        stopped = interrupt(
            *(tmp_path, "--scheduler", room.address, "run", "asian-option", "--paths", "900000000"), when="is gone"
        )
        killing.result()
    room.start_scheduler()
    assert stopped.status == 130
    assert "was interrupted" in stopped.output
    assert "Traceback" not in stopped.output
    assert stopped.left == []


def test_a_scheduler_that_is_stopped_is_waited_for(
    room: Remote, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    monkeypatch.setattr(internals, "ANSWER", 1.0)
    go_on = threading.Event()

    def told(what: str) -> bool:
        return any(what in record.getMessage() for record in caplog.records)

    def go_on_later() -> None:
        end = time.monotonic() + 150
        while time.monotonic() < end and not go_on.is_set():
            if told(" does not answer: waiting for it"):
                go_on.set()
            time.sleep(0.1)
        room.scheduler.send_signal(signal.SIGCONT)

    results = []
    with ThreadPoolExecutor(1) as thread:
        for result in balanced_map(lambda number: logged_call(str(tmp_path), number), range(300), client):
            results.append(result)
            if len(results) == 40:
                room.scheduler.send_signal(signal.SIGSTOP)
                going_on = thread.submit(go_on_later)
        going_on.result()
    assert go_on.is_set()
    assert results == [number * number for number in range(300)]
    assert told(" is back after ")


def test_a_scheduler_that_stays_stopped_ends_the_run(
    room: Remote, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(internals, "ANSWER", 1.0)
    with dask.config.set({"tritoncluster.wait": "2s"}):
        results = balanced_map(lambda number: logged_call(str(tmp_path), number), iter(int, 1), client)
        next(results)
        room.scheduler.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ClusterLostError, match=r"was not back in 2\.00 s"):
                list(results)
        finally:
            room.scheduler.send_signal(signal.SIGCONT)


#: Makes a scheduler's Python look like another one.
OTHER_PYTHON = """
from tritoncluster import admission

admission.python_version = lambda: "3.99.0"
"""


def test_a_next_scheduler_that_refuses_the_program_ends_the_run(room: Remote, client: Client, tmp_path: Path):
    (tmp_path / "other.py").write_text(OTHER_PYTHON)
    results = balanced_map(square, iter(int, 1), client)
    next(results)
    room.kill_scheduler()
    room.start_scheduler("--preload", str(tmp_path / "other.py"))
    with pytest.raises(ClusterLostError, match="the next one refuses this program: its Python is"):
        list(results)
    room.kill_scheduler()
    room.start_scheduler()


def test_a_duration_that_is_none_is_refused(client: Client):
    with dask.config.set({"tritoncluster.wait": "soon"}), pytest.raises(InputError, match="write one like 90s"):
        balanced_map(square, [1], client)
