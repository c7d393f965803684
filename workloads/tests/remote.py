"""A cluster of processes that are not the test's own: a scheduler and workers, as on other machines."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client


class Remote:
    """A scheduler and its workers, all on loopback.

    Attributes
    ----------
    address : str
        Of the scheduler.
    """

    def __init__(self, folder: Path, workers: int, environment: dict[str, str] | None = None) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._environment = os.environ | (environment or {})
        contact = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)
        )
        deadline = time.monotonic() + 60
        while not contact.exists() or not contact.read_text():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.1)
        with Client(scheduler_file=str(contact), set_as_default=False) as client:
            self.address = client.scheduler.address
            self.workers = [self.add_worker() for _ in range(workers)]
            if workers:
                client.wait_for_workers(workers, timeout=120)

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, without waiting for it."""
        options = ["--nthreads", "1", "--no-dashboard", "--preload", "tritoncluster.preload"]
        return self._start("worker", self.address, "--host", "127.0.0.1", *options)

    def close(self) -> None:
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers, self.scheduler]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{command[0]}.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )


@contextmanager
def remote(folder: Path, workers: int = 1, environment: dict[str, str] | None = None) -> Iterator[Remote]:
    """Start a cluster, and end it with the context."""
    cluster = Remote(folder, workers, environment)
    try:
        yield cluster
    finally:
        cluster.close()
