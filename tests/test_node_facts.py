"""What deploying finds out about a host's firewall."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "ansible/library"))
from node_facts import closed_chain

LET_SSH_IN = {"expr": [{"match": {"op": "==", "left": {"payload": {"field": "dport"}}, "right": 22}}, {"accept": None}]}
REFUSE = {"expr": [{"counter": {"packets": 0}}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]}
REFUSE_ONE = {
    "expr": [{"match": {"op": "==", "left": {"payload": {"field": "saddr"}}, "right": "1.2.3.4"}}, {"drop": None}]
}


def ruleset(*rules, policy="accept", hook="input", family="inet"):
    """Give what `nft --json list ruleset` does: the service's own table, and one of Docker's."""
    place = {"family": family, "table": "filter"}
    return [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": family, "name": "filter"}},
        {"chain": {"family": "ip", "table": "nat", "name": "DOCKER"}},
        {"chain": {**place, "name": "input", "type": "filter", "hook": hook, "prio": 0, "policy": policy}},
        *({"rule": {**place, "chain": "input", **rule}} for rule in rules),
    ]


@pytest.mark.parametrize(
    ("found", "chain"),
    [
        ([], ""),
        (ruleset(LET_SSH_IN, REFUSE), "inet filter input"),
        (ruleset(LET_SSH_IN, policy="drop"), "inet filter input"),
        (ruleset(LET_SSH_IN, REFUSE_ONE), ""),
        (ruleset(policy="drop", hook="forward"), ""),
        (ruleset(policy="drop", family="ip6"), ""),
    ],
)
def test_a_firewall_of_nftables_is_one_that_refuses_what_it_does_not_know(found, chain):
    assert closed_chain(found) == chain
