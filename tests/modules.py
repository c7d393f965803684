"""The modules and filters of `ansible/`, run here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = ROOT / "ansible"
# Ansible sends these along with a module.
ansible.module_utils.__path__.append(f"{ANSIBLE / 'module_utils'}")
sys.path[:0] = [f"{ANSIBLE / 'library'}", f"{ANSIBLE / 'filter_plugins'}"]

RUN = """
import ansible.module_utils, runpy, sys
ansible.module_utils.__path__.append(sys.argv.pop(1))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def module(name: str, *, commands: Path | None = None, check: bool = False, **arguments: object) -> dict[str, object]:
    """Run one of the modules on this machine, with the commands of one folder alone, if that is named."""
    given = {"ANSIBLE_MODULE_ARGS": arguments | {"_ansible_check_mode": check}}
    command = [sys.executable, "-c", RUN, f"{ANSIBLE / 'module_utils'}", f"{ANSIBLE / 'library' / name}.py"]
    environment = os.environ | ({"PATH": f"{commands}"} if commands else {})
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def program(folder: Path, name: str, script: str) -> None:
    """Put a shell script into a folder that stands first in PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
