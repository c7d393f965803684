#!/usr/bin/python
"""Ansible module: have a Raspberry Pi's kernel limit memory from its next start on."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tritoncluster_cmdline import RUNNING, can_write, disabled, enabled, find, read
from ansible.module_utils.tritoncluster_host import text

DOCUMENTATION = """
module: raspberry_pi_cmdline
short_description: Have the kernel limit memory from its next start on
description: Adds words to the line of cmdline.txt that is the kernel's. Without power in between, the old file is left.
options:
  boot:
    description: Folder of the boot partition.
    type: path
    required: true
  record:
    description: File that keeps what was there before, for absent.
    type: path
    required: true
  limits:
    description: Whether the kernel limits memory already; then a file that can't be written is no trouble.
    type: bool
    default: false
  running:
    description: File with what the kernel was started with.
    type: path
    default: /proc/cmdline
  state:
    description: Whether the words are to be there; absent takes those back that were added.
    type: str
    choices: [present, absent]
    default: present
author: tritoncluster
"""

EXAMPLES = """
- name: Let the kernel limit memory
  raspberry_pi_cmdline:
    boot: /boot/firmware
    record: /etc/tritoncluster/cmdline.json
"""

RETURN = """
content:
  description: What the file has now.
  returned: always
  type: str
"""


def replace(path: Path, content: str) -> None:
    """Write a file that is the old one or the new one, also when the power goes.

    FAT has no journal, and writes in any order what nobody waits for. A file that is replaced is freed when nobody has
    it open any more: were that on the card before the folder, the folder would name a file that is not there. And
    where a file begins is written with the file itself, also when its name changes.
    """
    handle, temporary = tempfile.mkstemp(dir=str(path.parent))
    with ExitStack() as opened:
        file = opened.enter_context(os.fdopen(handle, "wb"))
        old = opened.enter_context(path.open("rb")) if path.exists() else None
        try:
            file.write(os.fsencode(content))
            file.flush()
            os.fsync(handle)
            Path(temporary).chmod(os.fstat(old.fileno()).st_mode & 0o7777 if old else 0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise
        os.fsync(handle)
        folder = os.open(str(path.parent), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def add(module: AnsibleModule, record: Path) -> tuple[bool, str]:
    """Have the words there; the record is first, so that it is there whatever happens."""
    path = find(module.params["boot"])
    if path is None or (module.params["limits"] and not can_write(path)):
        return False, ""
    before = read(path)
    after = enabled(before, text(module.params["running"]))
    if after != before and not module.check_mode:
        noted = json.loads(text(str(record)) or "{}")
        noted.setdefault(str(path), {"before": before, "after": after})
        record.parent.mkdir(parents=True, exist_ok=True)
        replace(record, json.dumps(noted))
        replace(path, after)
    return after != before, after


def take_back(module: AnsibleModule, record: Path) -> tuple[bool, str]:
    """Have each file as it was before."""
    changed, wanted = False, ""
    for name, noted in json.loads(text(str(record)) or "{}").items():
        path = Path(name)
        if path.is_file():
            found = read(path)
            wanted = disabled(found, noted["before"], noted["after"])
            changed |= wanted != found
            if wanted != found and not module.check_mode:
                replace(path, wanted)
    if record.exists() and not module.check_mode:
        record.unlink()
    return changed, wanted


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "boot": {"type": "path", "required": True},
            "record": {"type": "path", "required": True},
            "limits": {"type": "bool", "default": False},
            "running": {"type": "path", "default": RUNNING},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    do = add if module.params["state"] == "present" else take_back
    changed, content = do(module, Path(module.params["record"]))
    module.exit_json(changed=changed, content=content)


if __name__ == "__main__":
    main()
