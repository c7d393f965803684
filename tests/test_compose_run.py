"""`docker compose run` beside a cluster that works: it needs a scheduler and one worker, and changes neither."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from compose_project import FILL_SCRATCH, Project, finish
from containers import PROJECT, run

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: One call of C that holds the interpreter's lock for a while: no thread of its worker goes on meanwhile.
HOLD = """
import sys, time
from distributed import Client

def hold(number):
    begin = time.time()
    pow(7, number)
    return time.time() - begin

client = Client()
victim = sorted(client.scheduler_info()["workers"].values(), key=lambda worker: worker["name"])[0]
took = client.submit(hold, 1_000_000).result()
number = int(1_000_000 * (15 / took) ** (1 / 1.585))
future = client.submit(hold, number, workers=[victim["name"]], pure=False)
time.sleep(1)
print("held", flush=True)
future.result()
"""


def containers(project: Project) -> list[tuple[str, str]]:
    services = ("scheduler", "worker", "gateway", "jobs")
    return [(each["Id"], each["State"]["StartedAt"]) for service in services for each in project.inspect(service)]


@pytest.fixture
def another_image(project: Project) -> Iterator[None]:
    """The node image is another than the one that runs, as after a build."""
    image, settings = f"{project.name}:rebuilt", dict(project.settings)
    command = ["docker", "buildx", "build", "--provenance=false", "--tag", image, "-"]
    dockerfile = f"FROM {project.inspect('scheduler')[0]['Config']['Image']}\nENV REBUILT=yes\n"
    subprocess.run(command, input=dockerfile, text=True, capture_output=True, check=True)
    project.write_settings(NODE_IMAGE=image)
    yield
    project.settings = settings
    project.write_settings()
    run("docker", "rmi", "--force", image)


@pytest.mark.usefixtures("another_image")
def test_it_starts_nothing_anew_after_a_rebuild(project: Project) -> None:
    before = containers(project)
    done = project.compose("run", "--rm", "-T", "--entrypoint", "printenv", "workload", "REBUILT")
    assert done.stdout == "yes\n"
    assert containers(project) == before


def test_it_waits_for_no_worker_in_particular(project: Project) -> None:
    services = json.loads(project.compose("config", "--format", "json").stdout)["services"]
    assert services["workload"]["depends_on"].keys() == {"setup"}


def check(project: Project, container: str) -> subprocess.Popen[str]:
    """Start the health check of a container."""
    (test,) = (each["Config"]["Healthcheck"]["Test"] for each in project.inspect("worker") if container in each["Name"])
    command = ["docker", "exec", container, *test[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def signal_worker(project: Project, container: str, signal: str) -> None:
    """Send a signal to the process that serves the container's port, which is the worker."""
    code = f"""
import os, runpy, signal, sys
sys.path.insert(0, "/usr/local/lib/tritoncluster")
import healthcheck
for process in healthcheck.listeners():
    os.kill(process, signal.{signal})
    print(process)
"""
    assert project.execute(container, "python3", "-c", code).strip().isdecimal()


def test_a_busy_worker_is_healthy_and_one_that_stands_still_is_not(project: Project) -> None:
    busy, still = project.names("worker")
    (project.scripts / "hold.py").write_text(HOLD)
    process = project.start_workload("submit", "hold.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    signal_worker(project, still, "SIGSTOP")
    try:
        checks = {name: check(project, name) for name in (busy, still)}
        # Others go on meanwhile.
        done = project.compose("run", "--rm", "-T", "workload", "--version")
        assert "tritoncluster" in done.stdout
        said = {name: each.communicate() for name, each in checks.items()}
    finally:
        signal_worker(project, still, "SIGCONT")
    assert checks[busy].returncode == 0, said
    assert re.fullmatch(r"port 9000: busy\n", said[busy][0]), said
    assert checks[still].returncode == 1, said
    assert re.fullmatch(r"port 9000: no answer in 5 s, and no use of the processor\n", said[still][1]), said
    assert finish(process).returncode == 0
    project.wait_until_healthy()


#: Prints where a task's files go, then leaves them; and fills /tmp with a file that nobody has open, as of long ago.
LEAVE = """
import os, pathlib, tempfile, time
from distributed import Client, get_worker

def leave():
    descriptor, path = tempfile.mkstemp()
    os.write(descriptor, b"x" * 1000)
    pathlib.Path("here").write_text("x")
    old = pathlib.Path("/tmp/old")
    old.write_bytes(b"x" * 2**20 * 60)
    os.utime(old, (0, 0))
    return str(pathlib.Path(get_worker().local_directory)), path, str(pathlib.Path("here").absolute())

client = Client()
worker = sorted(client.scheduler_info()["workers"])[0]
folder, *files = client.submit(leave, workers=[worker]).result()
assert all(file.startswith(folder + "/") for file in files), (folder, files)
print(folder)

def there(path):
    return os.path.exists(path)

deadline = time.monotonic() + 60
while client.submit(there, "/tmp/old", workers=[worker], pure=False).result() and time.monotonic() < deadline:
    time.sleep(0.5)
print(client.submit(there, "/tmp/old", workers=[worker], pure=False).result())
"""


@pytest.mark.slow
def test_what_tasks_leave_goes_with_their_worker_and_a_full_tmp_is_emptied(project: Project) -> None:
    (project.scripts / "leave.py").write_text(LEAVE)
    (project.scripts / "fill.py").write_text(FILL_SCRATCH)
    done = project.workload("submit", "leave.py")
    assert done.returncode == 0, done.stderr
    folder, full = done.stdout.split()
    assert folder.startswith("/work/dask-scratch-space/")
    assert full == "False"
    # A worker whose files grow too large is started again without them.
    done = project.workload("submit", "fill.py")
    assert done.stdout == "killed\n", done.stderr
    log = project.log("worker", tail=1000)
    assert "WORKER_MAX_DISK" in log
    assert "was full: removed 60" in log
    project.wait_until_healthy()
    used = project.execute(project.names("worker")[0], "du", "--summarize", "--block-size=1M", "/work").split()
    assert int(used[0]) < 50
    assert project.execute(project.names("worker")[0], "ls", folder) in {"", "storage\ntmp\n", "tmp\n"}


def test_the_project_ignores_what_a_client_gets() -> None:
    names = ["my-bundle/tls.key", "my-bundle/ca.crt", "other/tls.key", "ca.crt", "docker/extra-debian.txt"]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ignored.stdout.split() == names
