"""Becomes a Dask worker with the threads and the memory that its container may use; the rest is in the environment."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: What the nanny takes (75 MiB) and what the scratch folder in memory, /tmp, may take.
RESERVED = (80 + 64) * 2**20


def threads(root: Path = Path("/")) -> int:
    """Give the processors that the container may use, by number and by share of their time, 1 at least."""
    # dask worker itself looks for the share where cgroup version 1 has cpu and cpuacct together, and nowhere else.
    from tritoncluster.doctor.system import cpu_quotas

    have = min([float(len(os.sched_getaffinity(0))), *cpu_quotas(root).values()])
    return max(1, int(have + 0.5))


def memory(root: Path = Path("/")) -> int:
    """Give the bytes that tasks may take: what the container may take, less what else is in it."""
    import psutil

    from tritoncluster.doctor.system import memory_limits

    return min([psutil.virtual_memory().total, *memory_limits(root).values()]) - RESERVED


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


def arguments(environment: Mapping[str, str]) -> list[str]:
    """Give the command line of dask worker."""
    words = {
        "--name": environment.get("WORKER_NAME") or name(),
        "--nthreads": str(threads()),
        "--memory-limit": str(memory()),
        "--worker-port": environment["WORKER_PORT"],
        "--nanny-port": environment["WORKER_NANNY_PORT"],
        "--dashboard-address": f"{environment['WORKER_HTTP_HOST']}:{environment['WORKER_HTTP_PORT']}",
        "--local-directory": "/work",
    }
    if environment.get("WORKER_HOST"):
        words["--host"] = environment["WORKER_HOST"]
    # Metrics and health are there without the worker's own pages, which nobody reaches behind the gateway.
    return [f"{option}={value}" for option, value in words.items()] + ["--no-dashboard"]


def spilling(limit: str) -> dict[str, object]:
    """Give Dask's configuration for a limit of what is put on disk; none means that nothing is."""
    from dask.utils import parse_bytes

    # Sizes are written as Compose writes them, where m is 2^20.
    size = limit.strip().lower().removesuffix("b").removesuffix("i")
    of_bytes = parse_bytes(f"{size}iB" if size[-1:].isalpha() else f"{size}B")
    memory = "distributed.worker.memory"
    return {f"{memory}.max-spill": of_bytes} if of_bytes else {f"{memory}.target": False, f"{memory}.spill": False}


def main() -> None:
    """Run until stopped."""
    import dask.config
    from distributed.cli.dask_worker import main as dask_worker

    dask.config.set(spilling(os.environ["WORKER_MAX_SPILL"]))
    dask.config.set({"distributed.nanny.preload": ["tritoncluster.tls"]})
    # As an option, the nanny would import the heavy one too.
    dask.config.set({"distributed.worker.preload": ["tritoncluster.tls", "tritoncluster.preload"]})
    sys.exit(dask_worker(arguments(os.environ), prog_name="dask-worker"))


# The nanny starts its worker as a new Python that imports this file.
if __name__ == "__main__":
    main()
