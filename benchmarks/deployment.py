"""Deployments to rooms of hosts as containers: from bare hosts, with no change, and with a change of our code alone.

Images are built beforehand: what counts is what happens between the controller and the hosts. All hosts share the
processors of this machine, with the controller too, so seconds grow faster than in a room of machines; the calls that
each host gets, of Ansible's modules, are those of any room. A host takes some 400 MB of memory and 2 GB of disk.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

PROJECT = Path(__file__).resolve().parent.parent
ADDRESS = "10.214.15.{}"
RECEIVED = "cat /sys/class/net/eth0/statistics/rx_bytes"
#: Each module that is run there is a command of sudo's, which its log has.
CALLS = "sudo journalctl --quiet _COMM=sudo | grep --count COMMAND="


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

    def play(self, playbook: str, *arguments: str) -> "Played":
        """Run a playbook."""
        begin = time.perf_counter()
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", self.inventory, playbook, *arguments],
            cwd=PROJECT, env={**os.environ, "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stdout[-4000:] + done.stderr)
        changes = sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))
        return Played(time.perf_counter() - begin, done.stdout.count("\nTASK ["), changes)

    def ask(self, command: str) -> dict[str, int]:
        """Ask each host for a number."""
        found = {}
        for name in self.names:
            words = ["/usr/bin/ssh", "-F", self.folder / "ssh/config", name, command]
            found[name] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return found


class Played(NamedTuple):
    """A run of a playbook: its seconds, tasks, and what it changed."""

    seconds: float
    tasks: int
    changes: int


def measure(number: int) -> Played:
    """Print the figures of a room; give its run without a change."""
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
            first = room.play("site.yml")
            bytes_before, calls_before = room.ask(RECEIVED), room.ask(CALLS)
            again = room.play("site.yml")
            bytes_between, calls_after = room.ask(RECEIVED), room.ask(CALLS)
            update = room.play("site.yml", "-e", f"images_project={changed}")
            bytes_after = room.ask(RECEIVED)
        finally:
            room.play("molecule/host/destroy.yml")
    print(f"{number} hosts, bare to working cluster: {first.seconds:.0f} s (aim for three: 90 s)")
    print(f"{number} hosts, no change: {again.seconds:.0f} s, {again.changes} changes (aim for three: 20 s, none)")
    print(f"{number} hosts, a change of our code: {update.seconds:.0f} s")
    # The last question was one, too.
    calls = {name: count - calls_before[name] - 1 for name, count in calls_after.items()}
    to_scheduler, *to_workers = calls.values()
    print(
        f"  no change: {again.tasks} tasks; {to_scheduler} calls of the scheduler's host, {min(to_workers)} to "
        f"{max(to_workers)} of another"
    )
    rounds = ("no change", bytes_before, bytes_between), ("a change of our code", bytes_between, bytes_after)
    for title, before, after in rounds:
        moved = {name: (count - before[name]) / 10**6 for name, count in after.items()}
        to_scheduler, to_worker = moved.pop(room.names[0]), max(moved.values())
        # Ansible brings its modules along, in each run.
        print(f"  {title}: {to_scheduler:.1f} MB to the scheduler's host, at most {to_worker:.1f} MB to another")
    print("  aim for what a change moves: below 2 MB", flush=True)
    return again


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--hosts", type=int, nargs="+", default=[3, 6], metavar="NUMBER", help="of each room; 3 6 by default"
    )
    rooms = {size: measure(size) for size in parser.parse_args().hosts}
    few, many = min(rooms), max(rooms)
    if few < many:
        ratio = rooms[many].seconds / rooms[few].seconds
        print(f"no change in {many} hosts against {few}: {ratio:.1f} times (aim for 30 against 3: at most 3)")
