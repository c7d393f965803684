"""What the tests share: a record of the hosts from before the first of them."""

import pytest
from record import records
from room import ADDRESSES, PKI


def pytest_itemcollected(item):
    """Let a test run a few playbooks."""
    item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session", autouse=True)
def before():
    """Give host -> what was on it before anything was deployed."""
    assert not PKI.exists()
    return records(ADDRESSES)
