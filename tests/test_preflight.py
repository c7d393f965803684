"""What the check before a deployment says of hosts."""

import copy

import pytest
from preflight import error, others, problems

GIB = 2**30
NO_ENGINE = {
    "installed": False, "version": "", "api": "", "compose": "", "ours": False, "settings": {}, "other": "",
    "removes": [], "maps_users": False, "rootless": False, "root": "/var/lib/docker", "proxy": "", "no_proxy": "",
}  # fmt: skip
ENGINE = NO_ENGINE | {"installed": True, "version": "26.1.5", "api": "1.45", "compose": "2.26.1"}
GOOD = {
    "name": "pi-1",
    "error": "",
    "facts": {
        "address": "192.168.1.11",
        "architecture": "arm64",
        "clock": 0.2,
        "addresses": ["192.168.1.11"],
        "boot": "",
        "container": "",
        "engine": NO_ENGINE,
        "firewall": {"name": "", "chain": "", "rules": []},
        "free": {"/var/lib/docker": 20 * GIB},
        "listeners": {"22": "sshd"},
        "memory": 4 * GIB,
        "nests": True,
        "root": {"kind": "ext4", "writable": True},
        "release": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "services": [],
    },
    "unreached": {},
    "unreachable": False,
    "connected_to": "192.168.1.11",
    "registry": "192.168.1.5",
    "clock_is_set": False,
    "memory": GIB,
    "disk": 4 * GIB,
    "ports": {
        "worker": [[8800, "the worker", "dask_worker_port"], [8900, "the worker's nanny", "dask_worker_nanny_port"]]
    },
    "clashes": [],
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
            {"engine": ENGINE | {"version": "20.10.24", "api": "1.41"}},
            "pi-1: Docker Engine 20.10.24 is too old: upgrade it to 25 or later",
        ),
        (
            {"engine": ENGINE | {"compose": "2.3.0"}},
            "pi-1: Docker Compose 2.3.0 is too old: upgrade it to 2.18",
        ),
        (
            {"engine": ENGINE | {"compose": ""}},
            "pi-1: Docker is installed without Compose: install",
        ),
        (
            {"engine": ENGINE | {"version": "", "api": "", "compose": ""}},
            "pi-1: Docker is installed but does not answer",
        ),
        (
            {"engine": NO_ENGINE | {"other": "snap"}},
            "pi-1: Docker is snap's, which sees no folders of the system: run `sudo snap",
        ),
        (
            {"engine": ENGINE | {"other": "podman"}},
            "pi-1: docker is podman's there: run `sudo apt-get remove podman-docker`",
        ),
        (
            {"engine": ENGINE | {"version": "", "other": "rootless"}},
            "pi-1: Docker runs for a login alone (rootless): run",
        ),
        (
            {"engine": ENGINE | {"maps_users": True}},
            "pi-1: Docker maps users, and containers have no part",
        ),
        ({"engine": NO_ENGINE | {"settings": {"userns-remap": "default"}}}, "take userns-remap out of its settings"),
        ({"engine": NO_ENGINE | {"settings": {"hosts": ["tcp://0"]}}}, "pi-1: /etc/docker/daemon.json says hosts, as"),
        (
            {"engine": NO_ENGINE | {"settings": None}},
            "pi-1: /etc/docker/daemon.json is no JSON that an engine could read",
        ),
        (
            {"engine": NO_ENGINE | {"removes": ["containerd.io", "docker-ce-cli"]}},
            "pi-1: installing Docker would remove containerd.io docker-ce-cli: install the Docker Engine that belongs",
        ),
        (
            {"engine": ENGINE | {"proxy": "http://proxy:3128", "no_proxy": "localhost,10.0.0.0/8"}},
            "pi-1: its engine would ask the proxy http://proxy:3128 for the room's images: add 192.168.1.5 to NO_PROXY",
        ),
        (
            {"container": "lxc", "nests": False},
            "pi-1: is a container (lxc) that may not hold others: allow that (nesting",
        ),
        (
            {"root": {"kind": "ext4", "writable": False}},
            "pi-1: its root can't be written: let `sudo mount -o remount,rw /`",
        ),
        (
            {"root": {"kind": "overlay", "writable": True}},
            "pi-1: its root is in memory (overlay), which the next start empties",
        ),
        ({"boot": "its kernel can't limit memory"}, "pi-1: its kernel can't limit memory"),
    ],
)
def test_each_thing_that_is_wrong_is_one_line(facts, said):
    (line,) = problems([changed(**facts)])
    assert said in line
    assert "\n" not in line


def test_ports_that_meet_are_refused():
    said = "registry_port and gateway_port both have port 5000: set one of them to another"
    assert problems([{**GOOD, "clashes": [said]}]) == [f"pi-1: {said}"]


def test_a_clock_that_deploying_sets_is_no_trouble():
    assert problems([{**changed(clock=-7200.0), "clock_is_set": True}]) == []


def test_ports_of_ours_are_no_trouble():
    assert problems([changed(listeners={"8800": "dask"}, services=["worker"])]) == []


@pytest.mark.parametrize("release", [("ubuntu", "24.04"), ("ubuntu", "26.04"), ("debian", "14"), ("raspbian", "13")])
def test_later_systems_will_do(release):
    identity, version = release
    assert problems([changed(release={"id": identity, "version": version, "name": ""})]) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("Task failed: Missing sudo password", "pi-1: sudo is refused (Missing sudo password): let the login"),
        (
            "Task failed: Failed to connect to the host via ssh: ssh: connect to host pi-1 port 22: No route to host",
            "pi-1: can't be reached by SSH (connect to host pi-1 port 22: No route to host)",
        ),
        ("bash: python3: command not found", "pi-1: Python does not run"),
        (
            "Task failed: Timeout (12s) waiting for privilege escalation prompt: ",
            "pi-1: sudo does not take the password (Timeout (12s) waiting for privilege escalation prompt): ",
        ),
        (
            "Timeout (62s) waiting for privilege escalation prompt: ",
            "Where sudo is sudo-rs (Ubuntu 25.10 and later), set ansible_become_exe to sudo.ws",
        ),
        ("Task failed: Incorrect sudo password", "pi-1: sudo does not take the password (Incorrect sudo password)"),
        ("sudo-rs: Authentication failed, try again", "pi-1: sudo does not take the password"),
        (
            "ansible-core requires a minimum of Python version 3.8. Current version: 3.7.3",
            "pi-1: its Python is too old (ansible-core requires",
        ),
        ("Task failed: No space left on device", "pi-1: could not be looked at (No space left on device)"),
        ("", "pi-1: could not be looked at (no answer)"),
    ],
)
def test_hosts_that_could_not_be_looked_at_are_named(found, said):
    host = {**GOOD, "facts": {}, "error": found or " ", "unreachable": " via ssh:" in found}
    (line,) = problems([host])
    assert line.startswith("pi-1: ")
    assert said in line
    # For what does not deploy, nothing else of a host is wrong.
    assert error(host) == line
    assert error({**host, "error": ""}) == ""


@pytest.mark.parametrize("name", ["python-1", "sudo", "become", "privilege.example.org"])
def test_a_host_s_name_does_not_lead_astray(name):
    refused = (
        f"Task failed: Failed to connect to the host via ssh: ssh: connect to host {name} port 22: Connection refused"
    )
    host = {**GOOD, "name": name, "connected_to": name, "facts": {}}
    (line,) = problems([{**host, "error": refused, "unreachable": True}])
    assert line.startswith(f"{name}: can't be reached by SSH (connect to host {name} port 22: Connection refused)")
    (line,) = problems([{**host, "error": f"{name}: disk quota exceeded"}])
    assert line.startswith(f"{name}: could not be looked at ({name}: disk quota exceeded)")
    (line,) = problems([{**host, "error": f"{name}: python3: command not found"}])
    assert line.startswith(f"{name}: Python does not run (")


def test_two_hosts_with_one_address_are_named():
    (line,) = problems([GOOD, {**copy.deepcopy(GOOD), "name": "pi-2"}])
    assert line.startswith("pi-1 and pi-2 have one address, 192.168.1.11: give each")


UNREACHED = {**GOOD, "unreached": {"desktop": "192.168.1.2"}}
UFW = {"name": "ufw", "chain": "", "rules": []}
RULE = {"ports": "8786", "protocol": "tcp", "source": "192.168.1.11"}


def desktop(**facts):
    host = changed(**({"address": "192.168.1.2", "addresses": ["192.168.1.2"]} | facts))
    return host | {"name": "desktop"}


def test_hosts_that_do_not_reach_each_other_are_named():
    (line,) = problems([UNREACHED])
    assert line.startswith("pi-1: does not reach desktop (192.168.1.2): are both on one network")
    (line,) = problems([UNREACHED, desktop()])
    assert line.startswith("pi-1: does not reach desktop (192.168.1.2): are both on one network")


def test_hosts_with_several_addresses_are_asked_for_the_right_one():
    (line,) = problems([UNREACHED, desktop(addresses=["192.168.1.2", "100.64.0.7"])])
    assert line == (
        "pi-1: does not reach desktop (192.168.1.2): desktop has 192.168.1.2 and 100.64.0.7: "
        "set node_address to the one in the room's network"
    )


@pytest.mark.parametrize(
    ("firewall", "tried"),
    [
        ({"name": "", "rules": []}, True),
        # Lets nobody but the controller in: deploying opens it.
        (UFW, False),
        (UFW | {"rules": [RULE | {"source": "192.168.1.12"}]}, False),
        # It was opened for this host.
        (UFW | {"rules": [RULE]}, True),
        (UFW | {"rules": [RULE | {"ports": "5000,8700:8799"}]}, True),
        # Ports have moved.
        (UFW | {"rules": [RULE | {"ports": "8785,8787:8899"}]}, False),
        ({"name": "firewalld", "chain": "", "rules": []}, True),
    ],
)
def test_a_firewall_that_deploying_opens_is_no_trouble(firewall, tried):
    facts = {
        "pi-1": GOOD["facts"],
        "desktop": desktop(firewall=firewall)["facts"],
        "gone": {},
        "lost": changed(address="")["facts"],
    }
    assert others(facts, "pi-1", "desktop", [22, 8786]) == ({"desktop": "192.168.1.2"} if tried else {})


@pytest.mark.parametrize(("count", "tried"), [(1, 0), (2, 1), (3, 2), (5, 3), (9, 4), (100, 7)])
def test_in_a_large_room_each_host_tries_a_few_and_is_tried_by_as_many(count, tried):
    names = [f"host-{number}" for number in range(count)]
    facts = {name: {"address": name, "firewall": {"name": ""}} for name in names}
    chosen = {name: set(others(facts, name, "host-0", [8786])) for name in names}
    for name in names:
        assert tried <= len(chosen[name]) <= tried + 1
        assert name not in chosen[name]
        assert name == "host-0" or "host-0" in chosen[name]
        by = sum(name in them for them in chosen.values())
        assert by == count - 1 if name == "host-0" else by in (tried - 1, tried)
    # Whichever hosts are cut off from the rest, somebody notices.
    for part in range(1, count):
        apart = set(names[:part])
        assert any(chosen[name] - apart if name in apart else chosen[name] & apart for name in names)


@pytest.mark.parametrize(
    ("no_proxy", "lines"),
    [
        ("*", 0),
        ("localhost,192.168.1.5", 0),
        ("192.168.1.5:5000", 0),
        ("192.168.0.0/16", 0),
        ("", 1),
        ("192.168.1.50", 1),
    ],
)
def test_a_proxy_is_not_to_be_asked_for_the_room_s_own(no_proxy, lines):
    assert len(problems([changed(engine=ENGINE | {"proxy": "http://proxy", "no_proxy": no_proxy})])) == lines


def test_a_container_s_root_may_be_an_overlay():
    assert problems([changed(container="docker", root={"kind": "overlay", "writable": True})]) == []
