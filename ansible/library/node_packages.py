#!/usr/bin/python
"""Ansible module: packages of the distribution, without taking any away."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tritoncluster_engine import removals

DOCUMENTATION = """
module: node_packages
short_description: Install packages of the distribution
description:
  - As ansible.builtin.apt does, which wants a package of its own there first, and for that one does not wait while the
    system installs its updates.
  - Installs nothing for which others would have to go. A source of packages that can't be read is named; it fails the
    task when the packages can't be had without it.
options:
  names:
    description: The packages.
    type: list
    elements: str
    required: true
  replaces:
    description: Packages that may go for them.
    type: list
    elements: str
    default: []
  lock_seconds:
    description: How long to wait for others that install packages.
    type: int
    default: 900
  lists:
    description: Folder of the lists of packages, which are read anew when they are older than an hour.
    type: path
    default: /var/lib/apt/lists
author: tritoncluster
"""

EXAMPLES = """
- name: Install an engine
  node_packages:
    names: [docker.io]
"""

RETURN = """
installed:
  description: The packages that were missing.
  returned: always
  type: list
"""

MAX_AGE = 3600
LOCKED = re.compile(
    r"^E: (?:Could not get lock \S*|Unable to lock |.* is another process using it)"
    r"(?: It is held by process (\d+) \((.+?)\))?",
    re.MULTILINE,
)
#: What apt says of a source of packages names its address or its file.
SOURCE = re.compile(r"^[EW]: (.*(?://|/etc/apt/).*)$", re.MULTILINE)


def run(*command: str) -> tuple[int, str]:
    """Run a command in English without questions; give its status and all that it prints."""
    quiet = {**os.environ, "LC_ALL": "C", "LANGUAGE": "", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=quiet
    )
    return done.returncode, done.stdout.decode(errors="replace")


def when_free(command: list[str], end: float) -> tuple[int, str]:
    """Run apt-get, again and again while another program has its locks."""
    while True:
        status, said = run(*command)
        if not status or not LOCKED.search(said) or time.monotonic() > end:
            return status, said
        time.sleep(1)


def absent(names: list[str]) -> list[str]:
    """Choose the packages that are not installed."""
    _, listed = run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *names)
    return [name for name in names if f"{name} installed" not in listed.splitlines()]


def is_old(lists: str) -> bool:
    """Tell whether the lists of packages have to be read."""
    folder = Path(lists)
    return not any(folder.glob("*Packages*")) or time.time() - folder.stat().st_mtime > MAX_AGE


def unread(said: str) -> str:
    """Give what apt said of the first source of packages that it could not read; "" when it could read all."""
    found = sorted(SOURCE.finditer(said), key=lambda each: each[0][0])
    return found[0][1].strip(" .") if found else ""


def reason(said: str) -> str:
    """Give in one line why apt installed nothing, and what to do."""
    locked = LOCKED.search(said)
    if locked:
        holder = f"{locked[2]}, process {locked[1]}, installs" if locked[2] else "another program installs"
        return f"{holder} packages there and does not come to its end: run this again when it has"
    gone = re.search(r"^The following packages will be REMOVED:\n((?: .*\n)+)", said, re.MULTILINE)
    if gone:
        return f"apt would remove {' '.join(gone[1].split())} for them: remove that yourself, or leave the host out"
    interrupted = re.search(r"dpkg --configure -a", said)
    if interrupted:
        return "an installation was interrupted there: run `sudo dpkg --configure -a`"
    errors = re.findall(r"^E: (.*)$", said, re.MULTILINE) or said.strip().splitlines()[-1:] or ["apt says nothing"]
    return f"{errors[0].rstrip('.')}: `sudo apt-get install` of them there says more"


class Apt:
    """Apt, for some packages and as long as others may keep us waiting."""

    def __init__(self, names: list[str], replaces: list[str], end: float) -> None:
        self.names, self.replaces, self.end = names, replaces, end
        # What of the lists could not be read.
        self.source = ""

    def _get(self, *words: str) -> tuple[int, str]:
        return when_free(["apt-get", "--quiet", "--option", "DPkg::Lock::Timeout=60", *words], self.end)

    def update(self) -> None:
        """Read the lists anew."""
        self.source = unread(self._get("update")[1])

    def install(self) -> tuple[int, str]:
        """Install the packages; give the status, and what was said."""
        options = ["--yes", "--no-install-recommends", "--option", "Dpkg::Options::=--force-confold"]
        if set(absent(self.replaces)) != set(self.replaces):
            said = self._get(*options, "--simulate", "install", *self.names)[1]
            if set(removals(said)) <= set(self.replaces):
                return self._get(*options, "install", *self.names)
        return self._get(*options, "--no-remove", "install", *self.names)


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "names": {"type": "list", "elements": "str", "required": True},
            "replaces": {"type": "list", "elements": "str", "default": []},
            "lock_seconds": {"type": "int", "default": 900},
            "lists": {"type": "path", "default": "/var/lib/apt/lists"},
        },
        supports_check_mode=True,
    )
    wanted, end = module.params["names"], time.monotonic() + module.params["lock_seconds"]
    missing = absent(wanted)
    if not missing or module.check_mode:
        module.exit_json(changed=bool(missing), installed=missing)
    apt = Apt(missing, module.params["replaces"], end)
    old = is_old(module.params["lists"])
    if old:
        apt.update()
    status, said = apt.install()
    if status and not old and not LOCKED.search(said):
        # What the lists name may be gone.
        apt.update()
        status, said = apt.install()
    source = apt.source
    if status:
        why = (
            f"apt can't read a source of packages: {source}: mend it, or remove it from /etc/apt"
            if source
            else reason(said)
        )
        module.fail_json(msg=f"{', '.join(missing)} can't be installed: {why}")
    if source:
        module.warn(f"apt can't read a source of packages there: {source}; what was needed came from others")
    module.exit_json(changed=True, installed=missing)


if __name__ == "__main__":
    main()
