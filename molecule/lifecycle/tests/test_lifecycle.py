"""A room from its first run to its last, each test a step."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import testinfra
import yaml

PROJECT = Path(__file__).resolve().parents[3]
FILES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
ALL = yaml.safe_load((PROJECT / "molecule/lifecycle/inventory/hosts.yml").read_text())
SIZE = ["--paths", "3000000"]

pytestmark = pytest.mark.timeout(900)


def on(name):
    """Give a host by name."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FILES / "ssh/config"), sudo=True)


def inventory(*workers, schedulers=("desktop",), **changes):
    """Write an inventory of some of the hosts, and give its file."""
    content = copy.deepcopy(ALL)
    content["scheduler"]["hosts"] = dict.fromkeys(schedulers)
    content["workers"]["hosts"] = {name: dict(ALL["workers"]["hosts"][name]) for name in workers}
    for name in set(schedulers) - set(workers):
        content["scheduler"]["hosts"][name] = ALL["workers"]["hosts"][name]
    content["scheduler"]["vars"] = content["workers"]["vars"]
    for host, variables in changes.items():
        content["workers"]["hosts"][host] |= variables
    file = FILES / "hosts.yml"
    file.write_text(yaml.safe_dump(content))
    return file


TWO = ("desktop", "laptop")
THREE = ("desktop", "laptop", "spare")


def start(playbook, hosts, *arguments, **environment):
    """Start a playbook."""
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", hosts, playbook, *arguments]
    return subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, **environment}, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def play(playbook, hosts, *arguments, status=0, **environment):
    """Run a playbook to its end, and give what it printed."""
    process = start(playbook, hosts, *arguments, **environment)
    printed = process.communicate()[0]
    assert process.returncode == status, printed[-6000:]
    return printed


def changes(printed):
    """Give host -> number of changes, of what a playbook printed."""
    found = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", printed, re.MULTILINE)
    return {host: int(number) for host, number in found}


def names():
    """Give the names of the workers."""
    script = """
from distributed import Client
with Client("tls://10.214.14.11:8786") as client:
    print(*(worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))
"""
    return set(on("desktop").check_output("docker exec tritoncluster-scheduler python3 -c %s", script).split())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Give what the job gives on one machine."""
    command = [sys.executable, "-m", "tritoncluster", "run", "asian-option", *SIZE, "--json", "--output"]
    done = subprocess.run([*command, tmp_path_factory.mktemp("alone")], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["result"]


@contextmanager
def job(alone):
    """Have a job in its middle, and see afterwards that its result is right."""
    words = ["docker", "compose", "run", "--rm", "--no-TTY", "workload", "run", "asian-option", *SIZE, "--json"]
    command = f"cd /opt/tritoncluster/workload && sudo {' '.join(words)} --output results/job-{time.time_ns()}"
    process = subprocess.Popen(
        ["ssh", "-F", FILES / "ssh/config", "desktop", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    counts = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8788/json/counts.json\").read().decode())'"
    for _ in range(60):
        if json.loads(on("desktop").check_output(counts)).get("processing", 0) >= 3:
            break
        time.sleep(0.5)
    assert process.poll() is None, "the job ended before the test began"
    yield
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(printed)["result"] == alone


def traces(name):
    """List what is on a host of ours."""
    command = (
        "find / -xdev \\( -name '*tritoncluster*' -o -path '/etc/docker/certs.d/*' \\) -not -path '/tmp/*'"
        "; getent passwd tritoncluster; systemctl list-units --all --no-legend 'docker-registry*' | grep -v not-found"
    )
    return on(name).run(command).stdout.splitlines()


@contextmanager
def given(name, before, after):
    """Have a host in some state for a while; commands are root's."""

    def root(command):
        subprocess.run(["docker", "exec", f"tritoncluster-lifecycle-{name}", "bash", "-c", command], check=True)

    root(before)
    try:
        yield
    finally:
        root(after)


def refused(hosts, *arguments):
    """See that a run is refused, and nothing changed; give the lines of the refusal."""
    printed = play("site.yml", hosts, *arguments, status=2)
    assert sum(changes(printed).values()) == 0
    assert traces("desktop") == traces("laptop") == []
    return printed


def test_no_scheduler_is_refused():
    assert "inventory: there is no scheduler: name one" in refused(inventory(*TWO, schedulers=()))


def test_two_schedulers_are_refused():
    assert "inventory: desktop and laptop are all schedulers: keep one" in refused(inventory(*TWO, schedulers=TWO))


def test_a_userland_of_32_bits_is_refused():
    fake = "printf '#!/bin/sh\\necho armhf\\n' >/usr/local/bin/dpkg; chmod +x /usr/local/bin/dpkg"
    with given("laptop", fake, "rm /usr/local/bin/dpkg"):
        assert "laptop: its userland is armhf" in refused(inventory(*TWO))


def test_too_little_disk_is_refused():
    printed = refused(inventory(*TWO), "-e", '{"node_least_disk": 1000000000000000}')
    assert re.search(r"laptop: [\d.]+ GiB free for /var/lib/docker, ", printed)


def test_a_port_that_is_taken_is_refused():
    with given("desktop", "systemd-run --unit=taken python3 -m http.server 8786; sleep 2", "systemctl stop taken"):
        assert "desktop: port 8786, which is for the scheduler, is in use by python3" in refused(inventory(*TWO))


def test_a_host_that_is_not_there_is_refused():
    hosts = inventory(*TWO, laptop={"ansible_host": "10.214.14.99", "ansible_ssh_common_args": "-o ConnectTimeout=3"})
    assert "laptop: can't be reached by SSH" in refused(hosts)


def test_a_login_without_sudo_is_refused():
    with given("laptop", "mv /etc/sudoers.d/someone /root/", "mv /root/someone /etc/sudoers.d/"):
        assert "laptop: sudo is refused" in refused(inventory(*TWO))


def test_a_run_that_was_killed_half_way_is_made_good():
    process = start("site.yml", inventory(*TWO))
    for line in process.stdout:
        if "PLAY [Pull the images]" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    play("site.yml", inventory(*TWO))
    assert names() == set(TWO)
    assert sum(changes(play("site.yml", inventory(*TWO))).values()) == 0


def test_a_host_is_added_by_inventory():
    found = changes(play("site.yml", inventory(*THREE)))
    assert names() == set(THREE)
    assert found["spare"] > 0
    assert found["laptop"] == 0


def test_a_host_is_drained_in_the_middle_of_a_job(alone):
    with job(alone):
        play("ansible/drain.yml", inventory(*THREE), "--limit", "spare")
        assert names() == set(TWO)
    play("site.yml", inventory(*THREE))
    assert names() == set(THREE)


def test_a_new_image_rolls_over_the_cluster(alone):
    image = "docker inspect --format '{{.Config.Image}}' tritoncluster-"
    before = on("laptop").check_output(image + "worker")
    with job(alone):
        # Another label makes another image. The scheduler waits until the job has ended.
        play("ansible/upgrade.yml", inventory(*THREE), VERSION="0.1.0+next")
    running = {on(name).check_output(image + "worker") for name in THREE}
    running.add(on("desktop").check_output(image + "scheduler"))
    assert len(running) == 1
    assert running != {before}
    assert names() == set(THREE)


def test_a_certificate_is_renewed():
    certificate = FILES / "pki/hosts/laptop/tls.crt"
    before = certificate.read_text()
    certificate.unlink()
    found = changes(play("site.yml", inventory(*THREE), VERSION="0.1.0+next"))
    assert certificate.read_text() != before
    assert on("laptop").file("/etc/tritoncluster/tls/tls.crt").content_string == certificate.read_text()
    assert found["spare"] == 0
    assert names() == set(THREE)


def test_teardown_leaves_nothing():
    play("ansible/teardown.yml", inventory(*THREE), "-e", "teardown_packages=true")
    for name in THREE:
        assert traces(name) == []
        assert on(name).run("command -v dockerd").rc != 0
