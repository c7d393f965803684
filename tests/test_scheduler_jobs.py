"""Which work a scheduler's replacement waits for: what would be lost with it."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dask.config
import numpy as np
import pytest
from conftest import ROOT
from distributed import Client

from tritoncluster.balance import balanced_map
from tritoncluster.cluster import connect


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with a worker."""
    with connect(workers=1) as client:
        yield client.scheduler.address


def lost(address: str) -> str | None:
    """Give what would be lost, None for nothing."""
    script = ROOT / "ansible/roles/dask_scheduler/files/jobs.py"
    command = [sys.executable, "-c", script.read_text(), address, "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stderr), done.stderr
    return done.stderr.splitlines()[-1] if done.returncode else None


@contextmanager
def a_map(address: str, wait: str) -> Iterator[None]:
    """Have a map under way that shares an argument."""
    data = np.ones(200_000)

    def work(number: int) -> float:
        time.sleep(0.05)
        return number + data[0]

    with dask.config.set({"tritoncluster.wait": wait}), Client(address) as client:
        results = balanced_map(work, itertools.count(), client)
        next(results)
        yield
        results.close()


def test_nothing_is_waited_for_where_nothing_runs(address: str) -> None:
    assert lost(address) is None


def test_futures_are_waited_for(address: str) -> None:
    with Client(address) as client:
        waiting = client.submit(int, key="nowhere-1", resources={"none": 1})
        assert lost(address) == "nowhere"
        # What a client keeps on the workers is lost, too.
        data = client.submit(int, key="number-1")
        assert data.result() == 0
        assert lost(address) == "nowhere, number"
        waiting.cancel()


def test_a_run_that_waits_for_the_next_scheduler_is_not_waited_for(address: str) -> None:
    with a_map(address, "10 minutes"):
        assert lost(address) is None
        with Client(address) as other:
            data = other.submit(int, key="number-2")
            assert data.result() == 0
            assert lost(address) == "number"


def test_a_run_that_does_not_wait_long_enough_is_waited_for(address: str) -> None:
    with a_map(address, "2s"):
        assert "work" in lost(address)
