"""Rooms of workers of given speeds on this machine: processes whose tasks sleep, with a scheduler of their own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

#: Seconds for all to start.
START = 120


@contextmanager
def sleepers(workers: list[tuple[float, int]], config: Mapping[str, object], *, placed: bool) -> Iterator[Client]:
    """Yield a client of a scheduler, with our placement or without, and workers of these speeds and threads."""
    environment = {
        f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(value) for name, value in config.items()
    }
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        contact = Path(folder) / "scheduler.json"

        def start(*command: str, speed: float = 1.0) -> None:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.dask_{command[0]}", *command[1:], "--no-dashboard"],
                    cwd=folder,
                    env=os.environ | environment | {"SPEED": str(speed), "PYTHONPATH": str(Path(__file__).parent)},
                    stdout=(log := (Path(folder) / "log").open("ab")),
                    stderr=log,
                )
            )

        try:
            options = ["--preload", "tritoncluster.placement"] if placed else []
            start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(contact), *options)
            deadline = time.monotonic() + START
            while not contact.exists() or not contact.read_text():
                if time.monotonic() > deadline or processes[0].poll() is not None:
                    raise SystemExit((Path(folder) / "log").read_text())
                time.sleep(0.05)
            address = json.loads(contact.read_text())["address"]
            for place, (speed, threads) in enumerate(workers):
                words = ["--host", "127.0.0.1", "--nthreads", str(threads), "--name", f"worker-{place}", "--no-nanny"]
                start("worker", address, *words, speed=speed)
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(len(workers), timeout=START)
                yield client
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(30)
