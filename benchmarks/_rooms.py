"""Rooms of unlike machines on this one: clusters of containers with a share of a processor each."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
NETWORK = "tritoncluster-uneven"
IMAGE, IMAGE_WITH_RAY = "tritoncluster/node:uneven", "tritoncluster/node:uneven-ray"
#: As Docker names them.
FIRST_PROCESSOR, OTHER_PROCESSORS = "0", f"1-{max(1, (os.cpu_count() or 1) - 1)}"
#: Beyond this, Ray's own objects have no room; Docker gives 64 MB.
SHARED_MEMORY = "1g"


def docker(*arguments: str) -> str:
    """Call docker and give what it printed."""
    run = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"docker {' '.join(arguments[:3])}: {run.stderr.strip()}")
    return run.stdout


def build(project: Path, image: str) -> None:
    """Build the node image of a project's folder under a name of ours."""
    command = [project / "docker/bake", "node", "--set", f"node.tags={image}", "--progress", "quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build_with_ray() -> None:
    """Build the node image of the last commit with Ray in it, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=HERE.parent, check=True, capture_output=True).stdout
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive, check=True)
        Path(folder, "docker/extra-requirements.txt").write_text("ray\n")
        build(Path(folder), IMAGE_WITH_RAY)


@contextmanager
def network() -> Iterator[None]:
    """Make the network for all rooms."""
    docker("network", "create", NETWORK)
    try:
        yield
    finally:
        docker("network", "rm", NETWORK)


class Client:
    """Carries out orders (see _work.py) in a container.

    Parameters
    ----------
    container
        Its name.
    command
        How docker runs a command there, which may start it.
    """

    def __init__(self, container: str, *command: str) -> None:
        self.container = container
        self._process = subprocess.Popen(
            ["docker", *command, "python3", "/benchmarks/_work.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer."""
        self.tell(json.dumps(order))
        return self.answer()

    def tell(self, line: str) -> None:
        """Write a line."""
        self._process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]

    def answer(self) -> dict[str, Any]:
        """Wait for a line."""
        if not (line := self._process.stdout.readline()):  # type: ignore[union-attr]
            raise RuntimeError(f"the client ended with status {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        """End it, whatever it waits for."""
        docker("rm", "--force", self.container)
        self._process.wait()


class Room:
    """A Dask cluster: a scheduler, and a worker with one thread for each share of a processor.

    It is stopped in its tracks but for the time of a measurement, so that it takes nothing from others. A worker with a
    whole processor has one of its own, as a machine has: the others' bursts would take from it what it can't make up
    for.
    """

    image = IMAGE
    entrance = "scheduler"

    def __init__(self, name: str, shares: Sequence[float], settings: dict[str, str] | None = None) -> None:
        self.name, self.shares = f"uneven-{name}", list(shares)
        self.workers = [f"{self.name}-{number}" for number in range(len(shares))]
        self._settings = settings or {}

    @property
    def address(self) -> str:
        """The scheduler's."""
        return f"tcp://{self.name}-{self.entrance}:8786"

    def __enter__(self) -> Self:
        docker("run", *self._options(f"{self.name}-{self.entrance}"), self.image, *self._scheduler())
        for worker, share in zip(self.workers, self.shares, strict=True):
            docker("run", *self._options(worker, own=share == 1.0), self.image, *self._worker(worker))
        return self

    def __exit__(self, *_error: object) -> None:
        docker("rm", "--force", "--volumes", f"{self.name}-{self.entrance}", *self.workers)

    def limit(self) -> None:
        """Give each worker its share; before, they start and import with all that there is."""
        for worker, share in zip(self.workers, self.shares, strict=True):
            docker("update", "--cpus", str(share), worker)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it go on for a while."""
        docker("unpause", f"{self.name}-{self.entrance}", *self.workers)
        try:
            yield
        finally:
            self.pause()

    def pause(self) -> None:
        """Stop it in its tracks, but for a worker that was killed."""
        docker(
            "pause", *docker("ps", "--quiet", "--filter", f"name=^{self.name}-", "--filter", "status=running").split()
        )

    def restart(self, worker: str) -> None:
        """Start a worker that was killed, while the room is stopped in its tracks."""
        docker("start", worker)
        docker("pause", worker)

    def _scheduler(self) -> list[str]:
        return ["python3", "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]

    def _worker(self, name: str) -> list[str]:
        command = ["python3", "-m", "distributed.cli.dask_worker", self.address, "--name", name, "--nthreads", "1"]
        command += ["--no-dashboard", "--no-nanny", "--preload", "tritoncluster.preload"]
        return [*command, "--local-directory", "/tmp"]  # noqa: S108 - in the container

    def _options(self, name: str, *, own: bool = False) -> list[str]:
        # Nobody is lost because it was stopped in its tracks.
        settings = {
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "null",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        words = [word for each in (settings | self._settings).items() for word in ("--env", "=".join(each))]
        options = ["--detach", "--name", name, "--hostname", name, "--network", NETWORK, "--no-healthcheck"]
        options += ["--shm-size", SHARED_MEMORY, "--volume", f"{HERE}:/benchmarks:ro"]
        # Where all are equal there are no processors left for the others.
        if len(set(self.shares)) > 1 or len(self.shares) == 1:
            options += ["--cpuset-cpus", FIRST_PROCESSOR if own else OTHER_PROCESSORS]
        return [*options, *words]


class RayRoom(Room):
    """A Ray cluster: a head, where the client is, and the same workers."""

    image = IMAGE_WITH_RAY
    entrance = "head"

    def _scheduler(self) -> list[str]:
        return ["ray", "start", "--head", "--num-cpus", "0", "--include-dashboard", "false", "--block"]

    def _worker(self, name: str) -> list[str]:  # noqa: ARG002 - Ray names its workers itself
        return ["ray", "start", "--address", f"{self.name}-head:6379", "--num-cpus", "1", "--block"]


def dask_client() -> Client:
    """Start a client for all rooms of Dask."""
    name = "uneven-client"
    options = ["--rm", "--interactive", "--name", name, "--network", NETWORK, "--no-healthcheck"]
    options += ["--cpuset-cpus", OTHER_PROCESSORS, "--volume", f"{HERE}:/benchmarks:ro"]
    return Client(name, "run", *options, IMAGE)


def ray_client(room: RayRoom) -> Client:
    """Start a client in a room of Ray."""
    name = f"{room.name}-{room.entrance}"
    return Client(name, "exec", "--interactive", name)


def check_engine() -> None:
    """End with a clear word where no engine can be asked."""
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        raise SystemExit(f'no Docker engine answers at {where}; start one: eval "$(.ci/engine start)"')
