"""The room as its owner uses it: inventories, playbooks, jobs."""

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

import testinfra
import yaml

PROJECT = Path(__file__).resolve().parents[3]
FILES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PKI = FILES / "pki"
ALL = yaml.safe_load((PROJECT / "molecule/lifecycle/inventory/hosts.yml").read_text())
ADDRESSES = {name: variables["ansible_host"] for name, variables in ALL["workers"]["hosts"].items()}
TWO, THREE, FOUR = (tuple(ADDRESSES)[:number] for number in (2, 3, 4))
#: Certificates that the run after next finds about to end.
SHORT = {"pki_days": 30}


def on(name):
    """Give a host by name."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FILES / "ssh/config"), sudo=True)


def root(name, command):
    """Do something on a host without SSH, and give what is printed."""
    command = ["docker", "exec", f"tritoncluster-lifecycle-{name}", "bash", "-c", command]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def given(name, before, after):
    """Have a host in some state for a while."""
    root(name, before)
    try:
        yield
    finally:
        root(name, after)


def until(condition, seconds=120):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


def inventory(*workers, schedulers=("desktop",), everywhere=(), **changes):
    """Write an inventory of some of the hosts, and give its file."""
    content = copy.deepcopy(ALL)
    content["scheduler"]["hosts"] = {name: dict(ALL["workers"]["hosts"][name]) for name in schedulers}
    content["workers"]["hosts"] = {name: dict(ALL["workers"]["hosts"][name]) for name in workers}
    content["workers"]["vars"] |= dict(everywhere)
    content["scheduler"]["vars"] = content["workers"]["vars"]
    for host, variables in changes.items():
        content["workers"]["hosts"][host] |= variables
    file = FILES / "hosts.yml"
    file.write_text(yaml.safe_dump(content))
    return file


@contextmanager
def started(playbook, hosts, *arguments, **environment):
    """Start a playbook; it does not outlive the block."""
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", hosts, playbook, *arguments]
    process = subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def play(playbook, hosts, *arguments, status=0, **environment):
    """Run a playbook to its end, and give what it printed."""
    with started(playbook, hosts, *arguments, **environment) as process:
        printed = process.communicate()[0]
    assert process.returncode == status, printed[-6000:]
    return printed


def changes(printed):
    """Give host -> number of changes, of what a playbook printed."""
    found = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", printed, re.MULTILINE)
    assert found, printed[-6000:]
    return {host: int(number) for host, number in found}


def names(scheduler="desktop", port=8786):
    """Give the names of the workers."""
    script = """
import sys
from distributed import Client
with Client(sys.argv[1]) as client:
    print(*(worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))
"""
    command = "docker exec tritoncluster-scheduler python3 -c %s %s"
    return set(on(scheduler).check_output(command, script, f"tls://{ADDRESSES[scheduler]}:{port}").split())


def container(name, service):
    """Describe a container of a host."""
    return json.loads(on(name).check_output(f"docker inspect tritoncluster-{service}"))[0]


def digest(image):
    """Give the digest of an image that was built last."""
    return json.loads((FILES / "images" / image / "index.json").read_text())["manifests"][0]["digest"]


def running(hosts):
    """Give the images that run, of the node's."""
    services = [(name, "worker") for name in hosts] + [("desktop", "scheduler")]
    return {container(name, service)["Config"]["Image"] for name, service in services}
