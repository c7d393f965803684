"""Jobs that are left alone: a service as a process, a cluster, and commands that come through TLS."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from jobs_service import Service, Steps, ask, copy, describe, service, wait_for

from tritoncluster.service.model import Request
from tritoncluster.service.upload import pack

#: Sixty calls that write down that they were made.
CALLS = """
import os, sys, time
from distributed import Client
from tritoncluster.balance import balanced_map

record = sys.argv[1]

def call(number):
    # A call that opens a file is never kept: what is in it may change.
    os.mkdir(f"{record}/{number}-{time.time_ns()}")
    time.sleep(0.2)
    return number * number

print("sum", sum(balanced_map(call, range(60), Client())))
"""


def test_a_script_is_left_alone_and_its_results_are_fetched(shared: Service, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    (shared.folder / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    script = (
        "import sys, helper\nfrom distributed import Client\n"
        "print(Client().submit(helper.double, 21).result(), open('data.csv').read(), sys.argv[1:])\n"
        "open('own.txt', 'w').write('mine')\n"
    )
    job = shared.submit(script, "--with", str(tmp_path / "data.csv"), arguments=("--flag", "word"), who="ben")
    done = shared.command("jobs", "wait", job)
    log = shared.command("jobs", "logs", job).stdout
    assert done.returncode == 0, log
    assert done.stdout == f"{job}: it is finished\n"
    assert "42 1,2\n ['--flag', 'word']" in log
    shown = describe(shared, job)
    assert (shown["state"], shown["who"], shown["title"]) == ("finished", "ben", "submit script.py --flag word")
    done = shared.command("jobs", "fetch", job, folder=tmp_path)
    assert f"results/{job}" in done.stdout
    fetched = tmp_path / "results" / job
    assert (fetched / "files/own.txt").read_text() == "mine"
    assert (fetched / "log.txt").read_text() == log
    again = shared.command("jobs", "fetch", job, folder=tmp_path)
    assert again.returncode == 2
    assert "there is something already" in again.stderr


def test_a_run_that_is_left_alone_gives_what_it_gives_here(shared: Service, tmp_path: Path) -> None:
    words = ["run", "asian-option", "--paths", "20000"]
    job = shared.command(*words, "--detach").stdout.strip()
    here = json.loads(shared.command(*words, "--json", "--workers", "1", folder=tmp_path).stdout)
    assert shared.command("jobs", "wait", job).returncode == 0
    assert shared.command("jobs", "fetch", job, "--output", "fetched", folder=tmp_path).returncode == 0
    there = json.loads((tmp_path / "fetched/result.json").read_text())
    assert there["result"] == here["result"]
    assert "<html" in (tmp_path / "fetched/report.html").read_text()
    progress = describe(shared, job)["progress"]
    assert progress["done"] == progress["total"] > 0


def test_a_grid_that_is_named_goes_along(shared: Service, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("C: [0.1, 1]\n")
    words = ["run", "grid-search", "--samples", "100", "--grid", "grid.yaml", "--detach", "--json"]
    done = shared.command(*words, folder=tmp_path)
    job = json.loads(done.stdout)["id"]
    assert shared.command("jobs", "wait", job).returncode == 0, shared.command("jobs", "logs", job).stdout
    assert shared.command("jobs", "fetch", job, folder=tmp_path).returncode == 0
    assert json.loads((tmp_path / "results" / job / "result.json").read_text())["result"]["best_params"]["C"] in (
        0.1,
        1,
    )


def test_a_study_of_machines_is_left_alone(shared: Service, tmp_path: Path) -> None:
    words = ["scale", "asian-option", "--paths", "2000", "--steps", "1", "--alone", "--detach"]
    job = shared.command(*words).stdout.strip()
    assert shared.command("jobs", "wait", job).returncode == 0, shared.command("jobs", "logs", job).stdout
    assert shared.command("jobs", "fetch", job, folder=tmp_path).returncode == 0
    found = json.loads((tmp_path / "results" / job / "result.json").read_text())
    assert found["parameters"]["paths"] == 2000
    assert [len(step["machines"]) for step in found["result"]["steps"]] == [1]
    assert len(found["result"]["alone"]) == len(found["result"]["machines"])
    bad = shared.command("scale", "forest", "--steps", "none", "--detach")
    assert bad.returncode == 2
    assert "--steps must be numbers of machines" in bad.stderr


def test_wait_exits_as_the_job_did_and_a_failure_has_a_reason(shared: Service) -> None:
    job = shared.submit("import sys\nprint('so far')\nsys.exit(3)")
    done = shared.command("jobs", "wait", job, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["reason"] == "exit status 3: so far"
    assert shared.command("jobs", "why", job).stdout == "it failed: exit status 3: so far\n"


@pytest.mark.slow
def test_a_job_that_fails_is_tried_again_as_often_as_was_said(shared: Service, tmp_path: Path) -> None:
    times = repr(str(tmp_path / "times"))
    script = f"open({times}, 'a').write('x')\nraise SystemExit(len(open({times}).read()) < 3)"
    job = shared.submit(script, "--retries", "5")
    assert shared.command("jobs", "wait", job).returncode == 0
    assert (tmp_path / "times").read_text() == "xxx"
    assert describe(shared, job)["attempts"] == 3
    job = shared.submit("import sys; sys.exit(1)", "--retries", "1")
    assert shared.command("jobs", "wait", job).returncode == 1
    assert describe(shared, job)["attempts"] == 2
    # By hand, it may be tried as often again.
    assert shared.command("jobs", "retry", job).returncode == 0
    assert shared.command("jobs", "wait", job).returncode == 1


def test_logs_are_followed_to_the_end(shared: Service, tmp_path: Path) -> None:
    steps = Steps(shared, tmp_path)
    job = steps.submit("one")
    command = [sys.executable, "-m", "tritoncluster", "jobs", "logs", "--follow", job]
    environment = os.environ | shared.environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as following:
        # It comes while the job runs.
        lines = iter(following.stdout.readline, "")
        assert any("began one" in line for line in lines)
        assert following.poll() is None
        steps.let_go()
        assert "finished" in list(lines)[-1]
    assert following.returncode == 0


def test_jobs_run_in_their_order_some_at_a_time(alone: Service, tmp_path: Path) -> None:
    steps = Steps(alone, tmp_path)
    first = steps.submit("first")
    steps.wait_until("began first")
    low, middle = steps.submit("low", "--priority", "-1"), steps.submit("middle")
    high = steps.submit("high", "--priority", "2")
    jobs = json.loads(alone.command("jobs", "list", "--json").stdout)
    assert [(job["id"], job["state"], job["place"]) for job in jobs] == [
        (first, "running", None), (high, "waiting", 1), (middle, "waiting", 2), (low, "waiting", 3)
    ]  # fmt: skip
    why = alone.command("jobs", "why", middle).stdout
    assert why == f"it waits for room, 1 at once (now {first}), after 1: {high}\n"
    steps.let_go()
    assert alone.command("jobs", "wait", low).returncode == 0
    names = ["first", "high", "middle", "low"]
    assert steps.written() == [line for name in names for line in (f"began {name}", f"ended {name}")]


def test_cancelled_stays_cancelled(alone: Service, tmp_path: Path) -> None:
    steps = Steps(alone, tmp_path)
    running, waiting, other = steps.submit("running"), steps.submit("waiting"), steps.submit("other")
    steps.wait_until("began running")
    for job in (running, waiting):
        assert alone.command("jobs", "cancel", job, who="ben").stdout == f"{job} is cancelled\n"
    alone.kill()
    alone.start()
    steps.wait_until("began other")
    steps.let_go()
    assert alone.command("jobs", "wait", other).returncode == 0
    for job in (running, waiting):
        done = alone.command("jobs", "wait", job)
        assert (done.returncode, done.stdout) == (130, f"{job}: it was cancelled by ben\n")
        assert alone.command("jobs", "cancel", job).returncode == 2
    assert steps.written() == ["began running", "began other", "ended other"]
    # Unless somebody asks for it.
    assert alone.command("jobs", "retry", waiting).returncode == 0
    assert alone.command("jobs", "wait", waiting).returncode == 0
    assert steps.written()[-1] == "ended waiting"


def test_a_killed_service_loses_nothing_and_leaves_no_process(alone: Service, tmp_path: Path) -> None:
    steps = Steps(alone, tmp_path)
    running, waiting = steps.submit("running"), steps.submit("waiting")
    steps.wait_until("began running")
    # Whoever waits for a job waits for the service as well.
    command = [sys.executable, "-m", "tritoncluster", "jobs", "wait", waiting]
    environment = os.environ | alone.environment()
    follower = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        before = alone.processes()
        assert before
        alone.kill()
        _, left = psutil.wait_procs(before, timeout=30)
        assert left == []
        assert "does not answer" in alone.command("jobs").stderr
        assert "waiting for it" in follower.stderr.readline()
        alone.start()
        steps.let_go()
        assert follower.wait(120) == 0
    finally:
        follower.kill()
        follower.communicate()
    assert alone.command("jobs", "wait", running).returncode == 0
    assert steps.written() == ["began running", "began running", "ended running", "began waiting", "ended waiting"]
    assert "goes on, after the service was started anew" in alone.command("jobs", "logs", running).stdout
    assert describe(alone, running)["attempts"] == 1


def test_what_a_job_had_finished_is_not_computed_again(alone: Service, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.mkdir()
    job = alone.submit(CALLS, arguments=(str(record),))
    wait_for(lambda: len(list(record.iterdir())) >= 30)
    alone.kill()
    made = len(list(record.iterdir()))
    alone.start()
    assert alone.command("jobs", "wait", job).returncode == 0
    assert f"sum {sum(n * n for n in range(60))}\n" in alone.command("jobs", "logs", job).stdout
    calls = [each.name.partition("-")[0] for each in record.iterdir()]
    assert set(calls) == {str(number) for number in range(60)}
    # All but those of the last moment; what is sixty and all of them again would be a start from nothing.
    assert len(calls) < 60 + made / 2
    assert (alone.store / "jobs" / job / "journal.sqlite").exists()


@pytest.mark.slow
def test_a_job_waits_for_a_cluster_that_is_not_there(tmp_path: Path, scheduler: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with service(tmp_path / "early", f"tcp://127.0.0.1:{port}") as jobs:
        job = jobs.submit("from distributed import Client\nprint(Client().submit(sum, [1, 2]).result())")
        wait_for(lambda: "waits for the cluster" in jobs.command("jobs", "why", job).stdout)
        assert "no scheduler answers" in jobs.command("jobs", "why", job).stdout
        with forwarding(port, scheduler):
            assert jobs.command("jobs", "wait", job).returncode == 0
        assert describe(jobs, job)["attempts"] == 1


@contextmanager
def forwarding(port: int, target: str) -> Iterator[None]:
    """Let what connects to a port of loopback reach a scheduler."""
    host, _, number = target.removeprefix("tcp://").rpartition(":")
    server = socket.create_server(("127.0.0.1", port))
    opened = [server]

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                opened.append(client)
                there = socket.create_connection((host, int(number)))
                opened.append(there)
                for pair in ((client, there), (there, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        # Those who wait for something on them are woken.
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_a_service_that_is_stopped_ends_its_jobs_and_the_next_resumes_them(alone: Service, tmp_path: Path) -> None:
    steps = Steps(alone, tmp_path)
    job = steps.submit("one")
    steps.wait_until("began one")
    assert alone.stop() == 0
    assert alone.processes() == []
    alone.start()
    steps.let_go()
    assert alone.command("jobs", "wait", job).returncode == 0
    assert steps.written() == ["began one", "began one", "ended one"]


def test_a_killed_job_is_tried_again(alone: Service, tmp_path: Path) -> None:
    steps = Steps(alone, tmp_path)
    job = steps.submit("one", "--retries", "1")
    steps.wait_until("began one")
    for process in alone.processes():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    wait_for(lambda: steps.written().count("began one") == 2)
    steps.let_go()
    assert alone.command("jobs", "wait", job).returncode == 0


def test_it_is_accepted_once_however_often_it_is_sent(shared: Service) -> None:
    key, anna = str(uuid4()), {"X_Client_Name": "tritoncluster anna"}
    archive = pack(Request("submit", ("--", "a.py"), "submit a.py"), {"a.py": b"print(1)"})
    answers = [ask(shared, "PUT", f"/api/jobs/{key}", archive, **anna) for _ in range(3)]
    assert [status for status, _ in answers] == [201, 200, 200]
    (job,) = {json.loads(body)["id"] for _, body in answers}
    other = pack(Request("submit", ("--", "a.py"), "submit a.py"), {"a.py": b"print(2)"})
    status, body = ask(shared, "PUT", f"/api/jobs/{key}", other, **anna)
    assert (status, json.loads(body)) == (409, {"error": f"another job has this key: {job}"})
    listed = json.loads(ask(shared, "GET", "/api/jobs", **anna)[1])["jobs"]
    assert [each["key"] for each in listed].count(key) == 1
    assert list((shared.store / "incoming").iterdir()) == []
