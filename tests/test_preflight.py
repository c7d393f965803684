"""What the check before a deployment says of hosts."""

import copy
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "ansible/filter_plugins"))
from preflight import problems

GIB = 2**30
GOOD = {
    "name": "pi-1",
    "error": "",
    "facts": {
        "address": "192.168.1.11",
        "architecture": "arm64",
        "clock": 0.2,
        "engine": {"installed": False, "version": "", "api": "", "compose": "", "ours": False},
        "free": {"/var/lib/docker": 20 * GIB},
        "listeners": {"22": "sshd"},
        "memory": 4 * GIB,
        "release": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "services": [],
    },
    "unreached": [],
    "clock_is_set": False,
    "memory": GIB,
    "free": {"/var/lib/docker": 4 * GIB},
    "ports": [["worker", 8800, "the worker"]],
}


def changed(**facts):
    host = copy.deepcopy(GOOD)
    host["facts"] |= facts
    return host


def test_nothing_is_wrong_with_a_good_host():
    assert problems([GOOD]) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"architecture": "armhf"}, "pi-1: its userland is armhf, only amd64 and arm64 are built: install a 64-bit"),
        ({"architecture": ""}, "its userland is no Debian one"),
        (
            {"release": {"id": "debian", "version": "12", "name": "Debian 12"}},
            "pi-1: Debian 12 is not supported: install",
        ),
        ({"release": {"id": "fedora", "version": "44", "name": "Fedora 44"}}, "pi-1: Fedora 44 is not supported"),
        ({"clock": -7200.0}, "pi-1: its clock is -7200 s off the controller's: run `sudo timedatectl"),
        ({"free": {"/var/lib/docker": GIB}}, "pi-1: 1.0 GiB free for /var/lib/docker, 4.0 are needed: free some space"),
        ({"memory": GIB // 2}, "pi-1: 0.50 GiB of memory, 1.00 are needed: leave this host out"),
        ({"listeners": {"8800": "nginx"}}, "pi-1: port 8800, which is for the worker, is in use by nginx: stop that"),
        ({"address": ""}, "pi-1: no IPv4 address"),
        (
            {"engine": {"installed": True, "version": "20.10.24", "api": "1.41", "compose": "2.26.1", "ours": False}},
            "pi-1: Docker Engine 20.10.24 is too old: upgrade it to 25 or later",
        ),
        (
            {"engine": {"installed": True, "version": "26.1.5", "api": "1.45", "compose": "2.3.0", "ours": False}},
            "pi-1: Docker Compose 2.3.0 is too old: upgrade it to 2.18",
        ),
        (
            {"engine": {"installed": True, "version": "26.1.5", "api": "1.45", "compose": "", "ours": False}},
            "pi-1: Docker is installed without Compose: install",
        ),
        (
            {"engine": {"installed": True, "version": "", "api": "", "compose": "", "ours": False}},
            "pi-1: Docker is installed but does not answer",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_one_line(facts, said):
    (line,) = problems([changed(**facts)])
    assert said in line
    assert "\n" not in line


def test_a_clock_that_deploying_sets_is_no_trouble():
    assert problems([{**changed(clock=-7200.0), "clock_is_set": True}]) == []


def test_ports_of_ours_are_no_trouble():
    assert problems([changed(listeners={"8800": "dask"}, services=["worker"])]) == []


@pytest.mark.parametrize("release", [("ubuntu", "24.04"), ("ubuntu", "26.04"), ("debian", "14"), ("raspbian", "13")])
def test_later_systems_will_do(release):
    identity, version = release
    assert problems([changed(release={"id": identity, "version": version, "name": ""})]) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Task failed: Missing sudo password", "pi-1: sudo is refused (Missing sudo password): let the login"),
        (
            "Task failed: Failed to connect to the host via ssh: ssh: connect to host pi-1 port 22: No route to host",
            "pi-1: can't be reached by SSH (connect to host pi-1 port 22: No route to host)",
        ),
        ("bash: python3: command not found", "pi-1: Python does not run"),
    ],
)
def test_hosts_that_could_not_be_looked_at_are_named(error, said):
    (line,) = problems([{**GOOD, "facts": {}, "error": error}])
    assert line.startswith(said)


def test_two_hosts_with_one_address_are_named():
    (line,) = problems([GOOD, {**copy.deepcopy(GOOD), "name": "pi-2"}])
    assert line.startswith("pi-1 and pi-2 have one address, 192.168.1.11: give each")


def test_hosts_that_do_not_reach_each_other_are_named():
    (line,) = problems([{**GOOD, "unreached": ["desktop (192.168.1.2)"]}])
    assert line.startswith("pi-1: does not reach desktop (192.168.1.2): ")
