"""Becomes a Dask worker with the threads and the memory that its container may use; the rest is in the environment."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: Bytes that a nanny takes (75 MiB), and that the scratch folder in memory, /tmp, may take.
NANNY, TEMPORARY = 80 * 2**20, 64 * 2**20
#: A container that may take less has no nanny: tasks want its memory more. What it does, the kernel and the engine do
#: as well there: a worker that takes too much is killed, and started again.
LEAST_WITH_NANNY = 2**30
SCRATCH = str(Path(__file__).with_name("scratch.py"))


def threads(root: Path = Path("/")) -> int:
    """Give the processors that the container may use, by number and by share of their time, 1 at least."""
    # dask worker itself looks for the share where cgroup version 1 has cpu and cpuacct together, and nowhere else.
    from tritoncluster.doctor.system import cpu_quotas

    have = min([float(len(os.sched_getaffinity(0))), *cpu_quotas(root).values()])
    return max(1, int(have + 0.5))


def memory(root: Path = Path("/")) -> int:
    """Give the bytes that the container may take."""
    import psutil

    from tritoncluster.doctor.system import memory_limits

    return min([psutil.virtual_memory().total, *memory_limits(root).values()])


def name() -> str:
    """Give the name that the network knows this container by, as tritoncluster-worker-1; its own is a number."""
    own = socket.gethostname()
    # Python would find its own name, in /etc/hosts.
    asked = subprocess.run(
        ["/usr/bin/getent", "--service=hosts:dns", "hosts", socket.gethostbyname(own)],
        capture_output=True,
        check=False,
        text=True,
    )
    return asked.stdout.split()[1].partition(".")[0] if asked.returncode == 0 else own


def arguments(environment: Mapping[str, str], have: int) -> list[str]:
    """Give the command line of dask worker, for a container that may take so many bytes."""
    watched = have >= LEAST_WITH_NANNY
    words = {
        "--name": environment.get("WORKER_NAME") or name(),
        "--nthreads": str(threads()),
        "--memory-limit": str(have - TEMPORARY - NANNY * watched),
        "--worker-port": environment["WORKER_PORT"],
        "--dashboard-address": f"127.0.0.1:{environment['WORKER_HTTP_PORT']}",
        "--local-directory": "/work",
    }
    if environment.get("WORKER_HOST"):
        words["--host"] = environment["WORKER_HOST"]
    nanny = ["--no-nanny"]
    if watched:
        # The configuration's preloads are not asked for: the command line has none, and says so. --preload would be
        # both's.
        preloads = [f"--preload-nanny={module}" for module in ("tritoncluster.tls", SCRATCH)]
        nanny = [f"--nanny-port={environment['WORKER_NANNY_PORT']}", *preloads]
    # Health, and what `tritoncluster.metrics` reads, are there without the worker's own pages.
    return [*(f"{option}={value}" for option, value in words.items()), "--no-dashboard", *nanny]


def size(text: str) -> int:
    """Give the bytes of a size as Compose writes it, where m is 2^20."""
    from dask.utils import parse_bytes

    number = text.strip().lower().removesuffix("b").removesuffix("i")
    return parse_bytes(f"{number}iB" if number[-1:].isalpha() else f"{number}B")


def spilling(limit: int) -> dict[str, object]:
    """Give Dask's configuration for a limit of the bytes that are put on disk; none means that nothing is."""
    memory = "distributed.worker.memory"
    return {f"{memory}.max-spill": limit} if limit else {f"{memory}.target": False, f"{memory}.spill": False}


def wait_for_scheduler(address: str) -> None:
    """Wait until a scheduler is there: Dask's nanny looks for it more and more seldom, and gives up after a while."""
    from tritoncluster.certificates import connection_arguments
    from tritoncluster.reach import listens

    asyncio.run(listens(address, connection_arguments("worker")))


def main() -> None:
    """Run until stopped."""
    import dask.config
    from distributed.cli.dask_worker import main as dask_worker

    spilled, written = size(os.environ["WORKER_MAX_SPILL"]), size(os.environ["WORKER_MAX_DISK"])
    dask.config.set(spilling(spilled))
    os.environ["WORKER_DISK_BYTES"] = str(spilled + written if written else 0)
    preload = [f"tritoncluster.{name}" for name in ("tls", "preload", "metrics")]
    dask.config.set({"distributed.worker.preload": [*preload, SCRATCH]})
    wait_for_scheduler(os.environ["DASK_SCHEDULER_ADDRESS"])
    sys.exit(dask_worker(arguments(os.environ, memory()), prog_name="dask-worker"))


# The nanny starts its worker as a new Python that imports this file.
if __name__ == "__main__":
    main()
