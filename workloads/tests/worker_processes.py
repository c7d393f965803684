"""Worker processes that tests start themselves, to have something wrong with them, or stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client

from tritoncluster.nodes import workers

#: Seconds for workers to come; a machine may have more to do than to start them.
PATIENCE = 240


@contextmanager
def worker_process(
    client: Client, folder: Path, name: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Start a worker without a nanny for the cluster of `client`; it ends with the context.

    `folder` receives its log, and preload code or packages that a test puts there.
    """
    command = [sys.executable, "-m", "dask", "worker", client.scheduler.address, "--name", name, "--no-dashboard"]
    # Where options say something else, the later one counts.
    command += ["--no-nanny", "--nthreads", "1", "--memory-limit", "300MiB", "--local-directory", str(folder)]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            # What a nanny would have seen to.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes, as a stalling card or a paused container does to a worker; they go on after the context."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_for(client: Client, number: int) -> None:
    """Wait until the scheduler knows so many workers."""
    end = time.monotonic() + PATIENCE
    while len(here := workers(client)) < number:
        assert time.monotonic() < end, f"only {[worker.name for worker in here]} came"
        time.sleep(0.1)


def pretend(folder: Path, **versions: str) -> dict[str, str]:
    """Give an environment in which distributions seem to have other versions, and importing our package fails."""
    for name, version in versions.items():
        metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "tritoncluster.py").write_text("raise ImportError('this worker has none of it')\n")
    return {"PYTHONPATH": str(folder)}
