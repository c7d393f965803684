"""Embedded clusters that tests share; starting one takes seconds."""

from collections.abc import Callable, Iterator

import pytest
from distributed import Client

from tritoncluster.cluster import connect


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of an embedded cluster with two workers."""
    with connect(workers=2) as client:
        yield client


@pytest.fixture
def cluster_of() -> Iterator[Callable[[int], Client]]:
    """Start a cluster of a given number of workers; it ends with the test."""
    contexts = []

    def start(workers: int) -> Client:
        context = connect(workers=workers)
        contexts.append(context)
        return context.__enter__()

    yield start
    for context in contexts:
        context.__exit__(None, None, None)
