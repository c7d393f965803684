"""A deployment that is stopped again and again, and a host that is added."""

import json
import re
import signal

import pytest
from room import (
    ADDRESSES,
    FOUR,
    SHORT,
    THREE,
    changes,
    container,
    digest,
    inventory,
    names,
    on,
    play,
    running,
    started,
    until,
)

ON_DESKTOP = ("scheduler", "jobs", "gateway")
SERVICES = [*(("desktop", service) for service in ON_DESKTOP), *((name, "worker") for name in THREE)]


def engine_start():
    """Give since when the engine runs that the laptop's owner has."""
    return on("laptop").check_output("systemctl show --property ExecMainStartTimestampMonotonic docker")


@pytest.fixture(scope="module", autouse=True)
def engine_before():
    return engine_start()


@pytest.mark.parametrize(
    ("task", "process"),
    [
        ("Begin to install what is missing", "dpkg"),
        ("put | Copy what it has not", "skopeo"),
        ("Pull the images", ""),
        ("start | Start services, and wait until they are healthy", "docker-compose"),
    ],
)
def test_a_run_is_killed(task, process):
    """In a task, when a program that it starts runs on the scheduler's host."""
    with started("site.yml", inventory(*THREE, everywhere=SHORT)) as run:
        printed = ""
        for line in run.stdout:
            printed += line
            if line.startswith("TASK [") and task in line:
                break
        assert run.poll() is None, printed[-6000:]
        if process:
            until(lambda: on("desktop").run(f"pgrep --exact {process}").rc == 0, seconds=300)
    assert run.returncode == -signal.SIGKILL


def test_it_is_made_good(engine_before):
    play("site.yml", inventory(*THREE, everywhere=SHORT))
    assert names() == set(THREE)
    assert running(THREE) == {f"10.214.14.11:5000/tritoncluster/node@{digest('node')}"}
    assert container("desktop", "gateway")["Config"]["Image"].endswith(f"/gateway@{digest('gateway')}")
    assert set(changes(play("site.yml", inventory(*THREE, everywhere=SHORT))).values()) == {0}
    for name in THREE:
        assert on(name).check_output("dpkg --audit") == ""
    # The owner's engine was neither restarted nor configured.
    assert engine_start() == engine_before
    assert not on("laptop").file("/etc/docker/daemon.json").exists
    # The disk stays its owner's; a folder in it is ours.
    disk = on("laptop").file("/srv/disk")
    assert (disk.user, disk.mode) == ("someone", 0o700)
    assert on("laptop").file("/srv/disk/tritoncluster-scratch").user == "tritoncluster"
    assert on("laptop").check_output("ls /srv/disk/tritoncluster-scratch")


def test_the_owner_s_settings_are_kept():
    assert json.loads(on("desktop").file("/etc/docker/daemon.json").content_string)["bridge"] == "none"
    assert "docker0" not in on("desktop").check_output("ip -brief link")


def test_a_host_is_added_by_inventory():
    before = [container(*service)["State"]["StartedAt"] for service in SERVICES]
    found = changes(play("site.yml", inventory(*FOUR, everywhere=SHORT)))
    assert names() == set(FOUR)
    # The laptop's firewall has to know it, and the registry.
    assert found.pop("spare") > 0
    assert found == {"desktop": 2, "laptop": 1, "netbook": 0}
    rule = rf"^8800:8899,8900:8999/tcp +ALLOW +{re.escape(ADDRESSES['spare'])} "
    assert re.search(rule, on("laptop").check_output("ufw status"), re.MULTILINE)
    assert [container(*service)["State"]["StartedAt"] for service in SERVICES] == before
    # What its owner set precedes what is ours.
    settings = json.loads(on("spare").file("/etc/docker/daemon.json").content_string)
    assert settings == {"dns": ["10.214.14.1"], "log-driver": "json-file", "live-restore": True, "bridge": "none"}
    assert on("spare").file("/boot/firmware/cmdline.txt").content_string == (
        "\n  console=tty1 root=PARTUUID=9730496b-02 rootwait quiet cgroup_enable=memory cgroup_memory=1\r\n"
        "cgroup_enable=memory\r\n"
    )
