"""Runs and comparisons on clusters with workers that hang, go and come; and clients whose clock is wrong."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from command import tritoncluster
from distributed import Client
from remote import Remote, remote
from worker_processes import stopped, wait_for

from tritoncluster.cluster import connect
from tritoncluster.compare import compare
from tritoncluster.doctor.agreement import clocks
from tritoncluster.jobs import Job
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.nodes import CONCURRENCY, ask_workers, gather, workers
from tritoncluster.record import describe_workers, measure, plain

JOBS: list[Job] = [Forest(trees=50), GridSearch(samples=60), AsianOption(paths=5000)]
SIZES = {"trees", "samples", "paths"}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


@pytest.fixture
def visitor(elsewhere: Remote) -> Iterator[Client]:
    with Client(elsewhere.address, set_as_default=False) as client:
        wait_for(client, 2)
        yield client


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    # Times of fits differ from run to run.
    return {key: value for key, value in result.items() if key != "cv_results"}


def some_pid(client: Client) -> int:
    return next(iter(client.run(os.getpid).values()))


@pytest.mark.parametrize(
    "job", [*(pytest.param(job, marks=pytest.mark.slow) for job in JOBS[:2]), JOBS[2]], ids=lambda job: job.name
)
def test_run_goes_on_and_names_who_does_not_answer(elsewhere: Remote, visitor: Client, tmp_path: Path, job: Job):
    sound = comparable(job.run(visitor).to_json())
    address, pid = next(iter(visitor.run(os.getpid).items()))
    size = [[f"--{item.name}", str(getattr(job, item.name))] for item in fields(job) if item.name in SIZES]
    command = ["run", job.name, *itertools.chain(*size), "--output", "out"]
    with stopped(pid):
        done = tritoncluster(tmp_path, "--scheduler", elsewhere.address, *command)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{address} does not answer: the work does not wait for it" in done.stdout
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["finished"] is True
    assert comparable(content["result"]) == plain(sound)
    answered = {worker["name"]: worker["responding"] for worker in content["cluster"]["workers"]}
    assert answered == {address: False} | dict.fromkeys(answered.keys() - {address}, True)
    assert "did not answer" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_comparison_leaves_out_what_would_wait_for_ever(visitor: Client):
    with stopped(some_pid(visitor)):
        compared = compare(visitor, AsianOption(paths=5000))
    names = [way.name for way in compared.ways]
    assert names == ["serial", "threads", "processes", "cluster", "Python loop", "one task a path"]
    assert sorted(worker.responding for worker in compared.workers) == [False, True]
    assert "joblib's dask is left out: it waits for workers that do not answer" in compared.verdict


def test_embedded_cluster_ends_with_a_worker_that_hangs():
    with connect(workers=2) as client:
        pids = client.run(os.getpid)
        hanging = next(iter(pids.values()))
        os.kill(hanging, signal.SIGSTOP)
        record = measure(client, AsianOption(paths=5000))
        assert sorted(worker.responding for worker in record.workers) == [False, True]
        assert record.result is not None
    with pytest.raises(ProcessLookupError):
        os.kill(hanging, 0)


@pytest.mark.slow
def test_worker_that_dies_while_it_is_asked(visitor: Client):
    address, pid = next(iter(visitor.run(os.getpid).items()))
    with stopped(pid):
        death = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
        death.start()
        described = describe_workers(visitor)
        death.join()
    assert {worker.name for worker in described if not worker.responding} == {address}
    assert len([worker for worker in described if worker.architecture]) == len(described) - 1
    # The one that was asked for just now is gone, and one never was there.
    wait_for(visitor, 2)
    answers = ask_workers(visitor, [address, "tcp://127.0.0.1:9", *visitor.nthreads()], os.getpid, seconds=20)
    assert [isinstance(answer, Exception) for answer in answers.values()] == [True, True, False, False]


@pytest.mark.slow
def test_workers_that_come_and_go_while_they_are_described(elsewhere: Remote, visitor: Client):
    before = {worker.address for worker in workers(visitor)}
    late = elsewhere.add_worker()
    try:
        end = time.monotonic() + 120
        while len(described := describe_workers(visitor)) < 3:
            assert time.monotonic() < end
    finally:
        late.terminate()
    while len(described) > 2:
        described = describe_workers(visitor)
    late.wait()
    assert {worker.name for worker in described} == before


def test_questions_that_hang_keep_no_other_from_being_asked(client: Client):
    async def ask() -> list[str]:
        all_asked = asyncio.Event()

        async def hang() -> str:
            await all_asked.wait()
            return "hung"

        async def last() -> str:
            all_asked.set()
            return "last"

        return [hang, last]

    hang, last = client.sync(ask)
    number = 3 * CONCURRENCY
    answers = gather(client, {**{str(place): hang for place in range(number)}, "last": last}, seconds=60)
    assert list(answers.values()) == [*["hung"] * number, "last"]


def test_clocks_of_the_others_are_compared(visitor: Client):
    there = workers(visitor)
    address, pid = next(iter(visitor.run(os.getpid).items()))
    with stopped(pid):
        # The one that hangs is asked first.
        asked = sorted(there, key=lambda worker: worker.address != address)
        findings = list(clocks(visitor, asked, {}, scheduler=True, seconds=3))
    assert [(finding.where, finding.ok) for finding in findings] == [(asked[0].name, False)]


#: A client whose clock is wrong by so many seconds, as it is on a small computer without a battery.
WITH_A_WRONG_CLOCK = """
import json, sys, time
right, wrong_by = time.time, float(sys.argv[2])
def shifted():
    return right() + wrong_by
# It still travels by its name: the scheduler has a clock of its own.
shifted.__module__, shifted.__name__, shifted.__qualname__ = "time", "time", "time"
time.time = shifted
from distributed import Client
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.record import measure
with Client(sys.argv[1]) as client:
    record = measure(client, AsianOption(paths=40_000))
print(json.dumps({"seconds": record.seconds, "spans": [[span.task, span.start, span.stop] for span in record.spans]}))
"""


@pytest.mark.parametrize("wrong_by", [-3600, 0, 3600])
def test_timeline_is_on_the_schedulers_clock(elsewhere: Remote, visitor: Client, wrong_by: int):
    # What others did before is not of this run.
    visitor.gather(visitor.map(abs, range(20)))
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_WRONG_CLOCK, elsewhere.address, str(wrong_by)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    tasks = {task for task, _start, _stop in told["spans"]}
    assert tasks
    assert "abs" not in tasks
    assert min(start for _task, start, _stop in told["spans"]) > -60
    assert max(stop for _task, _start, stop in told["spans"]) < told["seconds"] + 60
