"""What breaks, breaks alone, and heals by itself."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_project import FILL_SCRATCH, JOBS, Project, assert_same, complaint, finish, result, wait_for

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: Takes memory on one worker until it dies: in steps, as a list grows, or in one go, for which no nanny is fast enough.
HOG = """
import sys, time
from distributed import Client, KilledWorker

def take(step):
    held = []
    while True:
        held.append(b"x" * (step * 2**20))
        time.sleep(0.05)

def start():
    import os, psutil
    return os.getpid(), psutil.Process().create_time()

client = Client()
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
victim, other = sorted(client.scheduler_info()["workers"])
before = client.run(start)
hog = client.submit(take, int(sys.argv[1]), workers=[victim])
try:
    hog.result(60)
except KilledWorker:
    print("killed")
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))
client.wait_for_workers(2, timeout=60)
after = client.run(start)
print(victim in after and after[victim] != before[victim], after[other] == before[other])
"""


@pytest.mark.parametrize("step", [20, 2000])
def test_a_worker_that_takes_too_much_memory_dies_alone(project: Project, step: int) -> None:
    def starts() -> list[tuple[str, int]]:
        kept = ("scheduler", "worker", "gateway", "jobs")
        return [(c["State"]["StartedAt"], c["RestartCount"]) for service in kept for c in project.inspect(service)]

    (project.scripts / "hog.py").write_text(HOG)
    before = starts()
    done = project.workload("submit", "hog.py", str(step))
    assert done.returncode == 0, done.stderr + project.log()
    assert done.stdout.split() == ["killed", "True", "True"]
    # The nanny outlives its worker, and so does the container.
    assert starts() == before
    project.wait_until_healthy()


#: What Dask's nannies set is there without one: hashes that are the same everywhere, one thread a call.
ENVIRONMENT = """
from dask.config import get
from distributed import Client

def environment():
    import os
    return dict(os.environ)

wanted = {name: str(value) for name, value in get("distributed.nanny.pre-spawn-environ").items()}
client = Client()
for worker, found in client.run(environment).items():
    assert {name: found.get(name) for name in wanted} == wanted, (worker, found)
nannies = {worker["nanny"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
assert nannies == {None}, nannies
hashes = set(client.run(hash, "anything").values())
assert len(hashes) == 1, hashes
print("right")
"""


@pytest.fixture
def small_workers(project: Project) -> Iterator[Project]:
    """The cluster, whose workers have half a gigabyte; they have their own size again afterwards."""
    size = project.settings["WORKER_MEMORY"]
    # With what they depend on, or they are not as the file has them, and the next `up` replaces them.
    up = ("up", "--detach", "--no-build", "worker")
    try:
        project.write_settings(WORKER_MEMORY="512m")
        project.compose(*up)
        project.wait_until_healthy()
        yield project
    finally:
        project.write_settings(WORKER_MEMORY=size)
        project.compose(*up)
        project.wait_until_healthy()


def test_small_workers_leave_the_memory_of_a_nanny_to_tasks(small_workers: Project) -> None:
    assert {memory for _, memory in small_workers.workers().values()} == {(512 - 64) * 2**20}
    (small_workers.scripts / "environment.py").write_text(ENVIRONMENT)
    done = small_workers.workload("submit", "environment.py")
    assert done.stdout == "right\n", done.stderr
    (small_workers.scripts / "hog.py").write_text(HOG)
    done = small_workers.workload("submit", "hog.py", "20")
    assert done.stdout.split() == ["killed", "True", "True"], done.stderr + small_workers.log()
    (small_workers.scripts / "fill.py").write_text(FILL_SCRATCH)
    assert small_workers.workload("submit", "fill.py").stdout == "killed\n", small_workers.log()
    assert "WORKER_MAX_DISK" in small_workers.log("worker", tail=1000)
    # The engine has started the first again, twice.
    assert [container["RestartCount"] for container in small_workers.inspect("worker")] in ([2, 0], [1, 1], [0, 2])
    small_workers.wait_until_healthy()


def test_a_job_outlives_its_scheduler(project: Project, embedded: dict[str, dict[str, Any]]) -> None:
    process = project.start_workload("run", *JOBS["asian-option"], "--json", "--output", "results/outlived")
    project.wait_until_busy()
    project.kill(*project.names("scheduler"))
    done = finish(process)
    assert_same("asian-option", result(done), embedded["asian-option"])
    assert done.stderr.count(" is gone: waiting for it") == done.stderr.count(" is back after ") == 1
    project.wait_until_healthy()


def test_a_killed_gateway_comes_back(project: Project) -> None:
    project.kill(*project.names("gateway"))
    project.wait_until_healthy()


#: Calls whose results are kept, until it is let go.
CALLS = """
import pathlib, sys
from distributed import Client
from tritoncluster.balance import balanced_map

def square(number):
    return number * number

client, total, part = Client(), 0, 0
while not pathlib.Path("/tmp", sys.argv[1]).exists():
    found = sum(balanced_map(square, range(10 * part, 10 * part + 10), client))
    assert found == sum(number * number for number in range(10 * part, 10 * part + 10))
    part += 1
    print("part", part, flush=True)
print("all right")
"""
#: Leaves this much beside itself.
LEAVE = "import sys\nopen('left', 'wb').write(bytes(int(sys.argv[1])))\nprint('left it')\n"
#: Takes what a disk has left, to the last byte.
FILL = """
import contextlib
with open("/work/filling", "wb", buffering=0) as file, contextlib.suppress(OSError):
    for size in (2**16, 2**12, 1):
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(size))
"""
SMALL = """
services:
  jobs:
    volumes: [small:/work]
volumes:
  small:
    name: {name}
    driver_opts: {{type: tmpfs, device: tmpfs, o: "size=8m,mode=0700,uid={uid},gid={gid}"}}
"""


@pytest.fixture
def small_disk(project: Project, tmp_path: Path) -> Iterator[str]:
    """The jobs service, whose container this gives, on a disk of 8 MB; the service has its own again afterwards."""
    file, name = tmp_path / "small.yaml", f"{project.name}-small"
    file.write_text(SMALL.format(name=name, uid=project.settings["UID"], gid=project.settings["GID"]))
    # With what it depends on, or the service is not as the file has it, and the next `up` replaces it.
    up = ("up", "--detach", "--no-build", "jobs")
    try:
        project.compose("--file", "compose.yaml", "--file", file, *up)
        project.wait_until_healthy()
        (container,) = project.names("jobs")
        yield container
    finally:
        project.compose(*up)
        subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=True)
        project.wait_until_healthy()


@pytest.mark.slow
def test_a_full_disk_loses_no_job_and_ends_none(project: Project, small_disk: str) -> None:
    for name, script in {"calls": CALLS, "leave": LEAVE}.items():
        (project.scripts / f"{name}.py").write_text(script)

    def submit(name: str, *words: str) -> str:
        done = project.workload("submit", "--detach", *words[:-1], f"{name}.py", *words[-1:])
        assert done.returncode == 0, done.stderr + project.log("jobs")
        return done.stdout.strip()

    def described(job: str) -> dict[str, Any]:
        return json.loads(project.workload("jobs", "show", job, "--json").stdout)

    def log(job: str) -> str:
        return project.workload("jobs", "logs", job).stdout

    def let_go(name: str) -> None:
        project.execute(small_disk, "python3", "-c", f"open('/tmp/{name}', 'w')")

    old = submit("leave", "1000000")
    assert project.workload("jobs", "wait", old).returncode == 0
    works, ends, cancelled = submit("calls", "works"), submit("calls", "ends"), submit("calls", "never")
    waits = submit("leave", "10")
    wait_for(lambda: "part 3" in log(works) and "part 3" in log(ends), 120, project.log)
    assert [described(job)["state"] for job in (cancelled, waits)] == ["waiting", "waiting"]
    before = [each["State"]["StartedAt"] for each in project.inspect("jobs")]
    project.execute(small_disk, "python3", "-c", FILL)

    # Whether what is sent along is small, or more than is written at once.
    (project.scripts / "large.bin").write_bytes(bytes(2**21))
    for words in ((), ("--with", "large.bin")):
        line = complaint(project.workload("submit", "--detach", *words, "leave.py", "10"), status=2)
        assert "the jobs service can't write to its disk: No space left on device; 'jobs remove ID' makes" in line
    assert "database or disk is full; 'jobs remove ID' makes room there" in complaint(
        project.workload("jobs", "cancel", cancelled), status=2
    )
    # What ends now has ended when that can be noted.
    let_go("ends")
    listed = {job["id"]: job["state"] for job in json.loads(project.workload("jobs", "--json").stdout)}
    assert listed.keys() == {old, works, ends, cancelled, waits}

    assert project.workload("jobs", "remove", old).returncode == 0
    assert project.workload("jobs", "wait", ends).returncode == 0
    project.workload("jobs", "cancel", cancelled)
    assert project.workload("jobs", "wait", waits).returncode == 0
    new = submit("leave", "10")
    assert project.workload("jobs", "wait", new).returncode == 0
    let_go("works")
    assert project.workload("jobs", "wait", works).returncode == 0
    # Said once there was room to say it.
    assert log(works).count("takes no more results") == 1
    assert "all right" in log(works)
    assert described(cancelled)["state"] == "cancelled"
    assert described(works)["attempts"] == 1
    assert [each["State"]["StartedAt"] for each in project.inspect("jobs")] == before
