"""What deploying finds out about a host: its firewall, the registries that its engine knows."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "ansible/library"))
from node_facts import closed_chain, our_rules, registries

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


def test_rules_of_ours_are_those_with_our_comment():
    status = """
Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
8800:8899,8900:8999/tcp    ALLOW       192.168.1.5                # tritoncluster
123/udp                    ALLOW       192.168.1.0/24             # tritoncluster
8787/tcp                   ALLOW       192.168.1.6                # the owner's
22/tcp (v6)                ALLOW       Anywhere (v6)
"""
    assert our_rules(status) == [
        {"ports": "8800:8899,8900:8999", "protocol": "tcp", "source": "192.168.1.5"},
        {"ports": "123", "protocol": "udp", "source": "192.168.1.0/24"},
    ]


def test_registries_of_ours_are_those_of_our_authority(tmp_path):
    authority = tmp_path / "ca.crt"
    for name, content in (("192.168.1.5:5000", "ours"), ("192.168.1.9:5000", "ours"), ("example.org", "another")):
        (tmp_path / "certs.d" / name).mkdir(parents=True)
        (tmp_path / "certs.d" / name / "ca.crt").write_text(content)
    assert registries(str(tmp_path / "certs.d"), str(authority)) == []
    authority.write_text("ours")
    assert registries(str(tmp_path / "certs.d"), str(authority)) == ["192.168.1.5:5000", "192.168.1.9:5000"]
