"""What the tests of the machine share."""

import os
import subprocess
import sys
from pathlib import Path

import testinfra

PROJECT = Path(__file__).parents[3]
FILES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
ADDRESSES = {"desktop": "10.214.15.11", "pi": "10.214.15.13"}
#: The line of cmdline.txt as the card comes, and as the role has it.
CMDLINE = "console=ttyAMA0,115200 root=/dev/vda2 rootfstype=ext4 fsck.repair=yes rootwait quiet"
MENDED = f"{CMDLINE} cgroup_enable=memory cgroup_memory=1"


def on(name):
    """Give a host by name."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FILES / "ssh/config"), sudo=True)


def ansible(program, *arguments):
    """Start a program of Ansible's, as users do; what it prints comes together."""
    command = [Path(sys.executable).parent / program, "-i", PROJECT / "molecule/raspberry-pi/inventory/hosts.yml"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=PROJECT, env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def job(*words):
    """Start a job of the workload container's, which the host of the scheduler has."""
    inside = "cd /opt/tritoncluster/workload && docker compose run --rm --no-TTY workload run"
    ssh = ["ssh", "-F", FILES / "ssh/config", "desktop", f"sudo sh -c '{inside} {' '.join(words)}'"]
    return subprocess.Popen(ssh, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def starts():
    """Give what the firmware told the kernel at each start of the machine."""
    return (FILES / "pi/starts").read_text().splitlines()
