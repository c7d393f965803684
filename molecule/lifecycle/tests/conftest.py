"""What the tests share: a record of the hosts from before the first of them."""

import pytest
from record import records
from room import ADDRESSES, PKI


@pytest.fixture(scope="session", autouse=True)
def before():
    """Give host -> what was on it before anything was deployed."""
    assert not PKI.exists()
    return records(ADDRESSES)
