"""Embedded clusters that tests share; starting one takes seconds."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from calls import nothing_left
from distributed import Client
from hypothesis import HealthCheck, settings
from jobs_service import alone, scheduler, shared  # noqa: F401  # fixtures

from tritoncluster.cluster import connect

# How long something takes is no matter of tests: these machines do other things, too. Where a change is checked,
# examples are the same each time, so that what fails is the change's; wherever else tests run, they are random.
settings.register_profile(
    "tests", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of an embedded cluster with two workers."""
    with connect(workers=2) as client:
        yield client


@pytest.fixture(autouse=True)
def begins_alone(request: pytest.FixtureRequest) -> None:
    """A test begins when what an earlier one gave back is gone: a client's release takes its way to the scheduler."""
    client = request.getfixturevalue("client") if "client" in request.fixturenames else None
    if isinstance(client, Client):  # and no parameter of that name
        assert nothing_left(client), "an earlier test left something on the cluster"


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged; embedded clusters, which have Dask's handlers silent, silence pytest's with them."""
    caplog.handler.setLevel(logging.NOTSET)
    return caplog


@pytest.fixture
def cluster_of() -> Iterator[Callable[[int], Client]]:
    """Start a cluster of a given number of workers; it ends with the test."""
    # The last is the first to end: each gives back the current client that it found.
    with ExitStack() as stack:
        yield lambda workers: stack.enter_context(connect(workers=workers))
