"""What deploying finds out about a host: its firewall, the registries that its engine knows."""

import json

import node_facts
import pytest
from ansible.module_utils.tritoncluster_engine import described, registries, removals, settings_of
from ansible.module_utils.tritoncluster_firewall import closed_chain, our_rules
from ansible.module_utils.tritoncluster_host import output
from node_facts import apparmor, is_noted, root, scratch

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


@pytest.mark.parametrize(("before", "known"), [("", False), ("\0" * 512, False), ("adduser\ndpkg\nzlib1g", True)])
def test_packages_are_removed_by_a_list_that_survived_alone(before, known):
    assert is_noted(before) is known


def test_registries_of_ours_are_those_of_our_authority(tmp_path):
    authority = tmp_path / "ca.crt"
    for name, content in (("192.168.1.5:5000", "ours"), ("192.168.1.9:5000", "ours"), ("example.org", "another")):
        (tmp_path / "certs.d" / name).mkdir(parents=True)
        (tmp_path / "certs.d" / name / "ca.crt").write_text(content)
    assert registries(str(tmp_path / "certs.d"), str(authority)) == []
    authority.write_text("ours")
    assert registries(str(tmp_path / "certs.d"), str(authority)) == ["192.168.1.5:5000", "192.168.1.9:5000"]


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("/dev/sda1 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0", {"kind": "ext4", "writable": True}),
        ("/dev/sda1 / ext4 ro,relatime,errors=remount-ro 0 0", {"kind": "ext4", "writable": False}),
        ("/dev/sda1 / ext4 rw,errors=remount-ro 0 0", {"kind": "ext4", "writable": True}),
        ("rootfs / rootfs rw 0 0\noverlayroot / overlay rw,lowerdir=/a 0 0", {"kind": "overlay", "writable": True}),
        ("", {"kind": "", "writable": True}),
    ],
)
def test_the_root_is_what_is_mounted_there_last(mounts, found):
    assert root(mounts) == found


def test_scratch_is_a_folder_of_ours_alone():
    assert scratch("A=1\nWORKER_SCRATCH=/mnt/ssd/tritoncluster-scratch\nB=2") == ["/mnt/ssd/tritoncluster-scratch"]
    # The owner's own, which an earlier version took.
    assert scratch("WORKER_SCRATCH=/mnt/ssd\n") == []
    assert scratch("WORKER_SCRATCH=/\n") == []
    assert scratch("WORKER_SCRATCH=/tritoncluster-scratch\n") == ["/tritoncluster-scratch"]
    assert scratch("") == []


@pytest.mark.parametrize(
    ("folder", "whose"), [("a", "root"), ("missing", ""), ("b", "4242")], ids=["named", "missing", "without a name"]
)
def test_owners_of_folders(tmp_path, monkeypatch, folder, whose):
    number = {"a": 0, "b": 4242}
    monkeypatch.setattr(node_facts, "Path", lambda path: Stat(number.get(path)))
    assert node_facts.owner(folder) == whose


class Stat:
    def __init__(self, user):
        self.st_uid = user

    def stat(self):
        if self.st_uid is None:
            raise FileNotFoundError
        return self


def test_commands_speak_english_whatever_the_controller_s_language_is(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de:fr")
    assert output("sh", "-c", "echo $LC_ALL-$LANGUAGE-") == "C--"
    assert output("sh", "-c", "echo found; exit 3") == ""
    assert output("no-such-command") == ""


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}, {"maps_users": True}),
        (
            {"SecurityOptions": ["name=rootless"], "DockerRootDir": "/home/a/docker"},
            {"rootless": True, "root": "/home/a/docker"},
        ),
        (
            {"HTTPProxy": "http://p", "HTTPSProxy": "http://q", "NoProxy": "a,b"},
            {"proxy": "http://q", "no_proxy": "a,b"},
        ),
        ({"SecurityOptions": None}, {}),
        # Podman's has other names.
        ({"host": {"security": {"rootless": True}}, "store": {}}, {}),
    ],
)
def test_what_an_engine_says_of_itself(info, found):
    nothing = {"maps_users": False, "rootless": False, "root": "", "proxy": "", "no_proxy": ""}
    assert described(json.dumps(info)) == nothing | found
    assert described("") == nothing


@pytest.mark.parametrize(
    ("content", "settings"), [("", {}), ('{"a": 1}', {"a": 1}), ("{", None), ("[1]", None), ("{'a': 1}", None)]
)
def test_settings_that_no_engine_could_read(content, settings):
    assert settings_of(content) == settings


def test_packages_that_apt_would_remove():
    simulated = """NOTE: This is only a simulation!
The following packages will be REMOVED:
  containerd.io docker-ce-cli
Remv docker-ce-cli [5:27.0]
Remv containerd.io [1.7.18-1]
Inst containerd (1.7.24 Debian:13 [amd64])
Conf containerd (1.7.24 Debian:13 [amd64])
"""
    assert removals(simulated) == ["docker-ce-cli", "containerd.io"]
    assert removals("E: Unable to locate package docker.io") == []


@pytest.mark.parametrize(
    ("enabled", "container", "wanted"),
    [("Y", "", True), ("N", "", False), (None, "", False), ("Y", "lxc", False)],
)
def test_a_profile_has_to_be_loaded_where_the_kernel_wants_one(tmp_path, enabled, container, wanted):
    if enabled:
        (tmp_path / "parameters").mkdir()
        (tmp_path / "parameters/enabled").write_text(f"{enabled}\n")
    assert apparmor(container, str(tmp_path)) is wanted
