"""The room as it was before."""

import re

import pytest
from record import difference, records
from room import ADDRESSES, FOUR, inventory, play

#: Where packages stay.
KEEPS = "netbook"


@pytest.fixture(scope="module")
def left(before):
    """Give host -> what is on it after teardown that was not before, and what is gone."""
    hosts = inventory(*FOUR, everywhere={"teardown_packages": True}, **{KEEPS: {"teardown_packages": False}})
    play("ansible/teardown.yml", hosts)
    after = records(ADDRESSES)
    return {name: difference(before[name], after[name]) for name in FOUR}


@pytest.mark.parametrize("name", sorted(set(FOUR) - {KEEPS}))
def test_nothing_is_left(left, name):
    assert left[name] == [], "\n".join(left[name])


def test_packages_stay_where_they_are_to(left):
    ours = re.compile(r"\+ (container|image|volume) |.*(tritoncluster|docker/certs\.d)")
    assert [line for line in left[KEEPS] if ours.match(line)] == []
    assert any(line.startswith("+ package docker.io ") for line in left[KEEPS])
