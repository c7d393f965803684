"""Deployments to 3 and to 6 hosts as containers: from bare hosts, with no change, and with a change of our code alone.

Images are built beforehand: what counts is what happens between the controller and the hosts.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parent.parent
ADDRESS = "10.214.15.{}"
RECEIVED = "cat /sys/class/net/eth0/statistics/rx_bytes"


class Room:
    """Hosts as containers, with an inventory."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.names = folder, [f"bench-{each}" for each in range(1, number + 1)]
        hosts = {
            name: {"ansible_host": ADDRESS.format(30 + each), "host_memory": "2g", "host_cpus": 2}
            for each, name in enumerate(self.names)
        }
        hosts[self.names[0]]["host_memory"] = "6g"
        variables = {
            "ansible_ssh_common_args": f"-F {folder}/ssh/config",
            "ansible_python_interpreter": "/usr/bin/python3",
            "pki_folder": f"{folder}/pki",
        }
        groups = {"scheduler": {"hosts": {self.names[0]: None}}, "workers": {"hosts": hosts, "vars": variables}}
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(yaml.safe_dump(groups))

    def play(self, playbook: str, *arguments: str) -> tuple[float, int]:
        """Run a playbook; give its seconds, and how many changes it made."""
        begin = time.perf_counter()
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", self.inventory, playbook, *arguments],
            cwd=PROJECT, env={**os.environ, "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stdout[-4000:] + done.stderr)
        changes = sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))
        return time.perf_counter() - begin, changes

    def received(self) -> dict[str, int]:
        """Ask each host for the bytes that it received."""
        found = {}
        for name in self.names:
            command = ["/usr/bin/ssh", "-F", self.folder / "ssh/config", name, RECEIVED]
            found[name] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found


def measure(number: int) -> None:
    """Print the figures of a room."""
    with tempfile.TemporaryDirectory() as temporary:
        room = Room(Path(temporary), number)
        changed = Path(temporary) / "project"
        subprocess.run(["/usr/bin/env", "git", "clone", "--quiet", PROJECT, changed], check=True)
        source = changed / "workloads/src/tritoncluster/__init__.py"
        source.write_text(source.read_text() + "\n# Changed.\n")
        for project in (PROJECT, changed):
            build = [project / "docker/layouts", project / ".cache/images"]
            subprocess.run(build, check=True, capture_output=True)
        try:
            room.play("molecule/host/create.yml")
            room.play("molecule/host/prepare.yml")
            first, _changes = room.play("site.yml")
            counts = [room.received()]
            again, changes = room.play("site.yml")
            counts.append(room.received())
            update, _changes = room.play("site.yml", "-e", f"images_project={changed}")
            counts.append(room.received())
        finally:
            room.play("molecule/host/destroy.yml")
    print(f"{number} hosts, bare to working cluster: {first:.0f} s (aim for three: 90 s)")
    print(f"{number} hosts, no change: {again:.0f} s, {changes} changes (aim: 20 s, none)")
    print(f"{number} hosts, a change of our code: {update:.0f} s")
    for title, before, after in (("no change", *counts[:2]), ("a change of our code", *counts[1:])):
        moved = {name: (count - before[name]) / 10**6 for name, count in after.items()}
        to_scheduler, to_worker = moved.pop(room.names[0]), max(moved.values())
        # Ansible brings its modules along, in each run.
        print(f"  {title}: {to_scheduler:.1f} MB to the scheduler's host, at most {to_worker:.1f} MB to another")
    print("  aim for what a change moves: below 2 MB", flush=True)


if __name__ == "__main__":
    for size in (3, 6):
        measure(size)
