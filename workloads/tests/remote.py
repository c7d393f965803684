"""A cluster of processes that are not the test's own: a scheduler and workers, as on other machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client
from distributed.comm import parse_address, parse_host_port


class Remote:
    """A scheduler and its workers, all on loopback.

    Attributes
    ----------
    address : str
        Of the scheduler.
    scheduler : subprocess.Popen
        The one that runs, or ran last.
    """

    def __init__(
        self, folder: Path, workers: int, environment: dict[str, str] | None = None, protocol: str = "tcp"
    ) -> None:
        self._folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        folder.mkdir(exist_ok=True)
        self._environment = os.environ | (environment or {})
        contact = folder / "scheduler.json"
        self._keepers: list[threading.Thread] = []
        self._closing = threading.Event()
        self._scheduler = [
            *("scheduler", "--host", "127.0.0.1", "--port", str(free_port()), "--no-dashboard"),
            *("--preload", "tritoncluster.admission", "--preload", "tritoncluster.placement"),
            *("--scheduler-file", str(contact), "--protocol", protocol),
        ]
        self.start_scheduler()
        try:
            self._fill(contact, workers)
        except BaseException:
            self.close()
            raise

    def _fill(self, contact: Path, workers: int) -> None:
        deadline = time.monotonic() + 200
        while not contact.exists() or not contact.read_text():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.1)
        self.address = json.loads(contact.read_text())["address"]
        self.workers += [self.add_worker() for _ in range(workers)]
        if workers:
            with Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=300)

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, without waiting for it."""
        options = ["--nthreads", "1", "--no-dashboard", "--preload", "tritoncluster.preload"]
        return self._start("worker", self.address, "--host", "127.0.0.1", *options)

    def close(self) -> None:
        """End all processes."""
        self._closing.set()
        for thread in self._keepers:
            thread.join()
        for process in [*self.workers, self.scheduler]:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        for process in [*self.workers, self.scheduler]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def keep_worker(self) -> None:
        """Start a worker that is started anew whenever it ends, as a container with a restart policy is."""
        thread = threading.Thread(target=self._keep_worker)
        self._keepers.append(thread)
        thread.start()

    def _keep_worker(self) -> None:
        while not self._closing.is_set():
            # As the image's workers do.
            while not self._listens() and not self._closing.wait(0.2):
                pass
            process = self.add_worker()
            self.workers.append(process)
            while process.poll() is None and not self._closing.wait(0.1):
                pass

    def _listens(self) -> bool:
        try:
            socket.create_connection(parse_host_port(parse_address(self.address)[1]), 1).close()
        except OSError:
            return False
        return True

    def kill_scheduler(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the scheduler, and wait until it is gone."""
        self.scheduler.send_signal(how)
        self.scheduler.wait(30)

    def start_scheduler(self, *options: str) -> None:
        """Start the next scheduler, at the same address, without waiting for it."""
        self.scheduler = self._start(*self._scheduler, *options)

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


def free_port() -> int:
    """Give a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def remote(
    folder: Path, workers: int = 1, environment: dict[str, str] | None = None, protocol: str = "tcp"
) -> Iterator[Remote]:
    """Start a cluster, and end it with the context."""
    cluster = Remote(folder, workers, environment, protocol)
    try:
        yield cluster
    finally:
        cluster.close()
