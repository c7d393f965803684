"""Each wrong inventory, and each host that will not do, is refused with its line, and nothing changes."""

import re
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from record import difference, records
from room import ADDRESSES, ALL, PKI, TWO, given, inventory, play


def refused(hosts):
    """See that a run is refused for one reason, and nothing changed; give the line that says why."""
    before = records(ADDRESSES) | {"controller": sorted(map(str, PKI.rglob("*")))}
    printed = play("site.yml", hosts, status=2)
    after = records(ADDRESSES) | {"controller": sorted(map(str, PKI.rglob("*")))}
    assert [line for name in before for line in difference(before[name], after[name])] == []
    *_, lines = re.findall(
        r"^\[ERROR\]: Task failed: (?:Action failed: )?(.*?)\nOrigin: ", printed, re.MULTILINE | re.DOTALL
    )
    (line,) = lines.splitlines()
    return line


def test_no_scheduler():
    assert refused(inventory(*TWO, schedulers=())).startswith("inventory: there is no scheduler: name one")


def test_two_schedulers():
    line = refused(inventory(*TWO, schedulers=TWO))
    assert line.startswith("inventory: desktop and laptop are all schedulers: keep one")


def test_a_userland_of_32_bits():
    answer = "printf '#!/bin/sh\\necho armhf\\n' >/usr/local/bin/dpkg; chmod +x /usr/local/bin/dpkg"
    with given("laptop", answer, "rm /usr/local/bin/dpkg"):
        line = refused(inventory(*TWO))
    assert line.startswith("laptop: its userland is armhf, only amd64 and arm64 are built: install a 64-bit")


def test_too_little_disk():
    with given("spare", "mount -t tmpfs -o size=64m tmpfs /var/lib/docker", "umount /var/lib/docker"):
        line = refused(inventory("desktop", "spare"))
    assert line.startswith("spare: 0.1 GiB free for /var/lib/docker, 4.0 are needed: free some space")


@pytest.fixture
def small_laptop():
    """Leave the laptop 700 MiB of its memory for a while."""

    def limit(size):
        words = ["docker", "update", "--memory", size, "--memory-swap", size, "tritoncluster-lifecycle-laptop"]
        subprocess.run(words, check=True, capture_output=True)

    limit("700m")
    yield
    limit(ALL["workers"]["hosts"]["laptop"]["host_memory"])


def test_too_little_memory(small_laptop):
    assert refused(inventory(*TWO)).startswith("laptop: 0.68 GiB of memory, 0.78 are needed: leave this host out")


def test_a_port_that_is_taken():
    take = "systemd-run --quiet --unit taken python3 -m http.server 8786"
    with given("desktop", f"{take}; until ss -ltn | grep --quiet :8786; do sleep 0.1; done", "systemctl stop taken"):
        line = refused(inventory(*TWO))
    assert line.startswith("desktop: port 8786, which is for the scheduler, is in use by python3: stop that")


def test_a_host_that_is_not_there():
    nobody = {"ansible_host": "10.214.14.99", "ansible_ssh_common_args": "-o ConnectTimeout=3"}
    assert refused(inventory(*TWO, laptop=nobody)).startswith("laptop: can't be reached by SSH (connect to host")


def test_a_login_without_sudo():
    with given("laptop", "mv /etc/sudoers.d/someone /root/", "mv /root/someone /etc/sudoers.d/"):
        line = refused(inventory(*TWO))
    assert line.startswith("laptop: sudo is refused (")
    assert "--ask-become-pass" in line


def test_two_hosts_with_one_address():
    line = refused(inventory(*TWO, laptop={"ansible_host": ADDRESSES["desktop"]}))
    assert line.startswith("desktop and laptop have one address, 10.214.14.11: give each its own ansible_host")


def test_a_clock_that_is_off():
    # All hosts here have one clock: a program sets it back for Ansible's Python.
    late = (
        "printf '#!/bin/sh\\nexec faketime -f -3h python3 \"$@\"\\n' >/usr/local/bin/late; chmod +x /usr/local/bin/late"
    )
    with given("laptop", late, "rm /usr/local/bin/late"):
        line = refused(inventory(*TWO, laptop={"ansible_python_interpreter": "/usr/local/bin/late"}))
    assert re.match(r"laptop: its clock is -10(79|80)\d s off the controller's: run `sudo timedatectl", line)


@contextmanager
def authority(days):
    """Have an authority; give its folder."""
    folder = PKI / "cluster"
    folder.mkdir(parents=True)
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", str(days), "-subj", "/CN=authority"]
    files = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    subprocess.run([*words, *files], check=True, capture_output=True)
    try:
        yield folder
    finally:
        shutil.rmtree(PKI)


def test_an_authority_whose_key_is_lost():
    with authority(days=4000) as folder:
        (folder / "ca.key").unlink()
        line = refused(inventory(*TWO))
    assert line.startswith(
        f"inventory: {folder}/ca.key is lost: bring it back from your copy, or move the folder cluster"
    )


def test_an_authority_that_is_about_to_end():
    with authority(days=10):
        line = refused(inventory(*TWO))
    assert re.match(r"inventory: the cluster authority in \S+ ends in 9 days: move the folder cluster away", line)


def test_an_engine_that_is_too_old():
    old = """
systemctl stop docker.socket docker.service
systemd-run --quiet --unit old /opt/old-engine/dockerd --host unix:///run/docker.sock --data-root /tmp/old/data \
    --exec-root /run/old --pidfile /run/old.pid --bridge none --iptables=false
for _ in $(seq 100); do docker version &>/dev/null && exit; sleep 0.2; done; exit 1
"""
    new = """
systemctl stop old.service; rm --force /etc/docker/key.json; systemctl start docker.service
for _ in $(seq 100); do [ -z "$(docker ps --quiet --filter name=owners)" ] || exit 0; sleep 0.2; done; exit 1
"""
    with given("laptop", old, new):
        line = refused(inventory(*TWO))
    assert line.startswith("laptop: Docker Engine 20.10.24+dfsg1 is too old: upgrade it to 25 or later")
