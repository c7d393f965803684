"""The service, its gateway and its commands in the process of the test: what each of them does, step by step."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.config
import pytest
from click.testing import CliRunner, Result
from jobs_service import Gateway, certificates, wait_for
from remote import remote

from tritoncluster.cli import command
from tritoncluster.errors import InputError
from tritoncluster.service.__main__ import serve
from tritoncluster.service.backup import restore, save
from tritoncluster.service.client import Jobs
from tritoncluster.service.folders import Folders
from tritoncluster.service.model import State
from tritoncluster.service.settings import Settings


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    with remote(tmp_path / "cluster", 1) as cluster:
        yield cluster.address


def run(*words: str) -> Result:
    found = CliRunner().invoke(command, list(words), standalone_mode=False)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def beside(service: Callable[[], None], steps: Callable[[], None]) -> None:
    """Call `steps` in a thread while the service has the main one, and end it then."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            steps()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work)
    thread.start()
    service()
    thread.join()
    if failures:
        raise failures[0]


def jobs_that_end(folder: Path) -> None:
    job = run("submit", "--detach", "--with", "data.csv", "my.py").stdout.strip()
    assert re.fullmatch("[a-z2-9]{5}", job)
    assert run("jobs", "wait", job).return_value == 0
    assert "1,2" in run("jobs", "logs", "--follow", job).stdout
    assert run("jobs", "why", job).stdout == "it is finished\n"
    assert "submit my.py" in run("jobs", "show", job).stdout
    assert "results" in run("jobs", "fetch", job).stdout
    assert (folder / "results" / job / "files/mine.txt").read_text() == "kept"
    bad = run("submit", "--detach", "--retries", "1", "--priority", "2", "bad.py").stdout.strip()
    assert run("jobs", "wait", "--json", bad).return_value == 3
    shown = json.loads(run("jobs", "show", "--json", bad).stdout)
    assert (shown["attempts"], shown["reason"]) == (2, "exit status 3: so far")


def jobs_that_do_not(folder: Path, base: Path) -> None:
    held = [run("submit", "--detach", "long.py").stdout.strip() for _ in range(2)]
    wait_for(lambda: "began" in run("jobs", "logs", held[0]).stdout)
    assert "waits for room" in run("jobs", "why", held[1]).stdout
    assert save(base, folder / "jobs.tar") == 4
    table = run("jobs").stdout
    assert all(each in table for each in (*held, "waiting, place 1"))
    with pytest.raises(InputError, match="cancel it first"):
        run("jobs", "remove", held[0])
    for each in reversed(held):
        assert run("jobs", "cancel", each).stdout == f"{each} is cancelled\n"
        assert run("jobs", "wait", each).return_value == 130
    assert run("jobs", "retry", held[0]).stdout == f"{held[0]} waits again\n"
    assert run("jobs", "cancel", held[0]).return_value in (0, None)
    limited = run("submit", "--detach", "--max-time", "4s", "long.py").stdout.strip()
    run("jobs", "wait", limited)
    assert "--max-time" in run("jobs", "why", limited).stdout
    ended = [each["id"] for each in Jobs().ask("GET").json()["jobs"] if each["state"] == State.FINISHED]
    run("jobs", "remove", *ended)
    states = {each["id"]: each["state"] for each in Jobs().ask("GET").json()["jobs"]}
    assert set(states.values()) == {State.CANCELLED, State.FAILED}
    assert not set(ended) & set(states)
    with pytest.raises(InputError, match="there is no job"):
        run("jobs", "fetch", ended[0], "--output", "elsewhere")


def ask(path: Path, method: str, target: str, **headers: str) -> tuple[int, bytes]:
    """Ask the service as the gateway does for a browser."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def what_browsers_get(path: Path) -> None:
    job = json.loads(ask(path, "GET", "/jobs/state.json")[1])["jobs"][0]["id"]
    for target in ("/jobs", f"/jobs/{job}"):
        status, body = ask(path, "GET", target)
        assert status == 200
        assert b"<!DOCTYPE html>" in body
    assert ask(path, "GET", "/health") == (200, b"ok\n")
    assert ask(path, "GET", f"/jobs/{job}/log.txt")[0] == 200
    assert ask(path, "GET", f"/jobs/{job}/report.html")[0] == 404
    assert ask(path, "GET", f"/jobs/{job}/log?from=999999999")[0] == 200
    assert ask(path, "GET", f"/jobs/{job}/log?from=-1")[0] == 400
    assert ask(path, "GET", "/jobs/zzzzz")[0] == 404
    assert ask(path, "GET", "/api/jobs")[0] == 403
    ours = {"Origin": "https://localhost"}
    assert ask(path, "POST", f"/jobs/{job}/retry")[0] == 403
    assert ask(path, "POST", f"/jobs/{job}/cancel", **ours)[0] == 409
    assert ask(path, "DELETE", f"/jobs/{job}", **ours)[0] == 405
    anna = {"X-Client-Name": "tritoncluster anna"}
    assert ask(path, "POST", f"/api/jobs/{job}/cancel", **ours, **anna)[0] == 403
    assert ask(path, "PUT", f"/api/jobs/{'0' * 36}", **anna)[0] == 400
    assert ask(path, "PUT", f"/api/jobs/{'0' * 36}", **anna, **{"Content-Length": str(2**40)})[0] == 413


@contextmanager
def running(folder: Path, scheduler: str, **settings: object) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Give what runs a service with these settings beside some steps."""
    (folder / "store").mkdir()
    certificates(folder / "tls", "anna")
    gateway = Gateway(folder / "tls", folder / "socket")
    bundle = folder / "tls/anna"
    configuration: dict[str, object] = {
        "tritoncluster.gateway": gateway.address,
        "distributed.comm.tls.client": {"cert": str(bundle / "tls.crt"), "key": str(bundle / "tls.key")},
        "scheduler-address": scheduler,
        **{f"tritoncluster.jobs.{name.replace('_', '-')}": value for name, value in settings.items()},
    }
    try:
        with dask.config.set(configuration):
            yield lambda steps: beside(lambda: asyncio.run(serve(folder / "store", folder / "socket")), steps)
    finally:
        gateway.close()


def test_a_job_from_its_submission_to_its_removal(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", scheduler)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "my.py").write_text("print(open('data.csv').read())\nopen('mine.txt', 'w').write('kept')\n")
    (tmp_path / "bad.py").write_text("print('so far')\nraise SystemExit(3)\n")
    (tmp_path / "long.py").write_text("import time\nprint('began', flush=True)\ntime.sleep(600)\n")

    def steps() -> None:
        wait_for((tmp_path / "socket").exists)
        assert "No jobs." in run("jobs").output
        jobs_that_end(tmp_path)
        what_browsers_get(tmp_path / "socket")
        jobs_that_do_not(tmp_path, tmp_path / "store")

    with running(tmp_path, scheduler, at_once=1) as beside_service:
        beside_service(steps)
    assert restore(tmp_path / "store", tmp_path / "jobs.tar") == 4


def test_limits_of_memory_and_of_logs(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", scheduler)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hog.py").write_text("import time\nheld = bytearray(500 * 2**20)\ntime.sleep(600)\n")
    (tmp_path / "chat.py").write_text("import time\nprint('x' * 5000, flush=True)\ntime.sleep(4)\nprint('end')\n")

    def steps() -> None:
        wait_for((tmp_path / "socket").exists)
        hog, chat = (run("submit", "--detach", name).stdout.strip() for name in ("hog.py", "chat.py"))
        assert run("jobs", "wait", hog).return_value == 137
        assert "is what a job may take" in run("jobs", "why", hog).stdout
        assert run("jobs", "wait", chat).return_value == 0
        log = run("jobs", "logs", chat).stdout
        assert "bytes are gone" in log
        assert "end\n" in log
        assert len(log) < 3000

    with running(tmp_path, scheduler, memory="450m", max_log="2k") as beside_service:
        beside_service(steps)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("at-once", "two", "a number of jobs, as 2, not two"),
        ("at-once", 0, "greater than 0"),
        ("memory", "much", "a size, as 1g, not much"),
        ("keep-time", "long", "a time, as 30 days, not long"),
    ],
)
def test_settings_are_checked(setting: str, value: object, message: str) -> None:
    with dask.config.set({f"tritoncluster.jobs.{setting}": value}), pytest.raises(InputError, match=message):
        Settings.configured()


def test_settings_are_as_compose_writes_them() -> None:
    given = {"memory": "512m", "keep-time": "7 days", "at-once": "3", "max-upload": "1g"}
    with dask.config.set({f"tritoncluster.jobs.{name}": value for name, value in given.items()}):
        found = Settings.configured()
    assert (found.memory, found.keep_time, found.at_once, found.max_upload) == (2**29, 7 * 86400, 3, 2**30)


def test_a_folder_is_one_service_s_and_is_swept(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    with pytest.raises(InputError, match="another jobs service has"):
        Folders(tmp_path)
    (folders.jobs / "abcde").mkdir()
    (folders.jobs / "fghjk").mkdir()
    (folders.incoming / "part.tar").write_text("x")
    folders.sweep(["abcde"])
    assert [path.name for path in folders.jobs.iterdir()] == ["abcde"]
    assert list(folders.incoming.iterdir()) == []
    with pytest.raises(ValueError, match="no job's ID"):
        folders.of("../x")
    folders.close()
    Folders(tmp_path).close()
