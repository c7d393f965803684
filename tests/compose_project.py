"""The project's compose file, running for a test under a name, on ports and with folders of its own."""

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from containers import PROJECT

#: The user of the images, whoever runs the tests.
USER = 1000


def free_port() -> int:
    """Give a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], Any], seconds: float, what: Callable[[], str] | str) -> float:
    """Wait until something holds; give the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            pytest.fail(f"not within {seconds} s: {what if isinstance(what, str) else what()}", pytrace=False)
        time.sleep(0.25)
    return time.monotonic() - begin


class Project:
    """A compose project that no other test knows."""

    def __init__(self, name: str, folder: Path, **settings: object) -> None:
        self.name = f"tritoncluster-test-{os.getpid()}-{name}"
        self.folder = folder
        self.results, self.scripts = folder / "results", folder / "scripts"
        for path in (self.results, self.scripts):
            path.mkdir()
            if os.getuid() == 0:
                os.chown(path, USER, USER)
        # Folders of a test are their user's alone.
        for path in (folder, *folder.parents[:2]):
            path.chmod(0o755)
        self.settings = {
            "RESULTS": self.results,
            "SCRIPTS": self.scripts,
            "UID": os.getuid() or USER,
            "GID": os.getgid() or USER,
            "SCHEDULER_PORT": free_port(),
            "DASHBOARD_PORT": free_port(),
            "WORKER_MEMORY": "1g",
            "WORKLOAD_MEMORY": "1g",
            "WORKER_MAX_SPILL": "150m",
            "WORKER_MAX_DISK": "150m",
            **settings,
        }
        self.write_settings()

    def write_settings(self, **changes: object) -> None:
        """Write the project's .env."""
        self.settings |= changes
        lines = [f"{name}={value}\n" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("".join(lines))

    def command(self, *arguments: object) -> list[str]:
        """Give the words of a compose command."""
        return ["docker", "compose", "--project-name", self.name, "--env-file", str(self.folder / ".env"),
                *map(str, arguments)]  # fmt: skip

    def compose(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a compose command."""
        done = subprocess.run(
            self.command(*arguments), cwd=PROJECT, env=self.environment(), capture_output=True, text=True, check=False
        )
        # Compose clears the line before each line of a log, terminal or not.
        done.stdout = done.stdout.replace("\x1b[2K", "")
        if check and done.returncode:
            pytest.fail(
                f"compose {arguments} exited {done.returncode}:\n{done.stdout}{done.stderr}{self.log()}", pytrace=False
            )
        return done

    def environment(self) -> dict[str, str]:
        """Give the environment without what would override the project's .env."""
        return {name: value for name, value in os.environ.items() if name not in self.settings}

    def start_workload(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a workload container; the cluster runs already."""
        return subprocess.Popen(
            self.command("run", "--rm", "--no-deps", "-T", "workload", *arguments),
            cwd=PROJECT, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def workload(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a workload container."""
        return finish(self.start_workload(*arguments))

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """Describe the containers of a service, by name."""
        found = self.compose("ps", "--all", "--quiet", service).stdout.split()
        if not found:
            return []
        done = subprocess.run(["docker", "inspect", *found], capture_output=True, text=True, check=False)
        return sorted(json.loads(done.stdout or "[]"), key=lambda container: container["Name"])

    def names(self, service: str) -> list[str]:
        """Give the names of the containers of a service."""
        return [container["Name"].strip("/") for container in self.inspect(service)]

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container, and give what it prints."""
        return subprocess.run(
            ["docker", "exec", container, *command], capture_output=True, text=True, check=False
        ).stdout

    def kill(self, container: str) -> None:
        """End all processes of a container at once, as a crash does: Docker's own kill means not to start it again."""
        self.execute(container, "bash", "-c", "kill -9 -1")

    def is_healthy(self, **containers: int) -> bool:
        """Tell whether so many containers of each service are healthy, and no others are there."""
        for service, number in containers.items():
            states = [each["State"].get("Health", {}).get("Status") for each in self.inspect(service)]
            if states != ["healthy"] * number:
                return False
        return len(self.workers()) == containers["worker"]

    def wait_until_healthy(self, workers: int = 2, seconds: float = 300) -> float:
        """Wait until all is healthy and so many workers are registered; give the seconds."""
        return wait_for(lambda: self.is_healthy(scheduler=1, gateway=1, jobs=1, worker=workers), seconds, self.log)

    def log(self, *services: str, tail: int = 60) -> str:
        """Give what the containers printed last."""
        return self.compose("logs", "--no-color", "--tail", tail, *services, check=False).stdout

    def password(self, *person: str) -> str:
        """Read the dashboard's password, or somebody's, as a user does."""
        return self.compose("run", "--rm", "-T", "setup", "password", *person).stdout.strip()

    def bundle(self, folder: Path, *person: str) -> Path:
        """Put into a folder what a client outside of the containers has, or somebody's."""
        command = self.command("run", "--rm", "-T", "setup", "client", *person)
        archive = subprocess.run(command, cwd=PROJECT, env=self.environment(), capture_output=True, check=True).stdout
        subprocess.run(["tar", "--extract", "--no-same-owner", "--directory", folder], input=archive, check=True)
        return folder

    @property
    def dashboard(self) -> str:
        """The dashboard's address."""
        return f"https://localhost:{self.settings['DASHBOARD_PORT']}"

    def get(self, path: str, password: str | None = "", user: str = "client") -> tuple[int, str]:
        """Ask the gateway for a page, with the right password if none is given; None is without."""
        request = urllib.request.Request(self.dashboard + path)
        if password is not None:
            self._password = getattr(self, "_password", None) or self.password()
            pair = f"{user}:{password or self._password}".encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
        if not hasattr(self, "_trust"):
            certificate = self.compose("run", "--rm", "-T", "setup", "certificate").stdout
            self._trust = ssl.create_default_context(cadata=certificate)
        try:
            with urllib.request.urlopen(request, context=self._trust, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except (urllib.error.URLError, OSError) as error:
            return 0, str(error)

    def counts(self) -> dict[str, int]:
        """Ask the scheduler how many tasks it has in which state."""
        status, body = self.get("/json/counts.json")
        return json.loads(body) if status == 200 else {}

    def wait_until_busy(self) -> None:
        """Wait until a job has been running for a while."""
        wait_for(lambda: self.counts().get("processing", 0) >= 2, 60, self.log)
        time.sleep(1.5)

    def workers(self) -> dict[str, tuple[int, int]]:
        """Ask the scheduler for its workers: threads and memory limit in bytes, by name."""
        # Not /json/identity.json: it fails once a worker has run a task.
        _, body = self.get("/info/main/workers.html")
        rows = re.findall(r'<td> (\S+) </td>\s*<td> (\d+) </td>\s*<td data-sort="(\d+)">', body)
        return {name: (int(threads), int(memory)) for name, threads, memory in rows}

    def left(self) -> list[str]:
        """List what the engine still has of the project."""
        found = []
        for kind in (["container", "ls", "--all"], ["volume", "ls"], ["network", "ls"]):
            label = f"--filter=label=com.docker.compose.project={self.name}"
            done = subprocess.run(["docker", *kind, "--quiet", label], capture_output=True, text=True, check=True)
            found += done.stdout.split()
        return found

    def down(self) -> None:
        """Remove everything; fail when something is left."""
        self.compose("down", "--volumes", "--timeout", "2", "--remove-orphans", check=False)
        assert self.left() == []
        shutil.rmtree(self.folder)


def finish(process: subprocess.Popen[str], seconds: float = 200) -> subprocess.CompletedProcess[str]:
    """Wait for a process and give what it printed."""
    out, err = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Give the `result` that a run with --json printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


def complaint(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """Give the one line that a failed command ended with."""
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if re.match("tritoncluster: ", line)]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@contextmanager
def running(name: str, folder: Path, **settings: object) -> Iterator[Project]:
    """Start a cluster with `docker compose up`, and remove it with the context."""
    project = Project(name, folder, **settings)
    try:
        project.compose("up", "--detach", "--no-build")
        project.wait_until_healthy(int(str(project.settings.get("WORKERS", 2))), seconds=600)
        yield project
    finally:
        project.down()


@pytest.fixture(scope="session")
def project(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Start the cluster that tests share; each leaves it with two healthy workers."""
    with running("shared", tmp_path_factory.mktemp("compose"), JOBS_IMAGE="tritoncluster/notebook:local") as project:
        yield project
        broken = not project.is_healthy(scheduler=1, gateway=1, jobs=1, worker=2)
        log = project.log() if broken else ""
    assert not broken, f"the tests left a cluster behind that is not healthy:\n{log}"


#: Some seconds of work on two workers, in options of `tritoncluster run`.
JOBS = {
    "forest": ("forest", "--trees", "1500"),
    "grid-search": ("grid-search", "--samples", "1500"),
    "asian-option": ("asian-option", "--paths", "800000"),
}


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the jobs without containers, and give their results."""
    found = {}
    for job, words in JOBS.items():
        command = [sys.executable, "-m", "tritoncluster", "run", *words, "--json", "--output", job]
        folder = tmp_path_factory.getbasetemp()
        found[job] = result(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False))
    return found


def assert_same(job: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare results, but for the times in them: the last bit counts."""
    if job == "grid-search":
        for column in ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"):
            for each in (found, expected):
                each["cv_results"].pop(column, None)
    assert found == expected


#: Writes more than a worker may.
FILL_SCRATCH = """
import os, time
from distributed import Client, KilledWorker

def fill():
    with open("much", "wb") as file:
        while True:
            file.write(os.urandom(2**20) * 20)
            file.flush()
            time.sleep(0.2)

client = Client()
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
worker = sorted(client.scheduler_info()["workers"])[0]
try:
    client.submit(fill, workers=[worker]).result(120)
except KilledWorker:
    print("killed")
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))
client.wait_for_workers(2, timeout=60)
"""
