#!/usr/bin/python
"""Ansible module: small files and their folders, all in one go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: node_files
short_description: Write several small files in one go
description:
  - As ansible.builtin.copy with content does for one, which takes two connections for each file. With the dozen of
    files that a host gets, that would be most of the time of a run that changes nothing.
  - Folders are made for the files, with the same owner and group.
options:
  files:
    description: Path -> content.
    type: dict
    required: true
  folder:
    description: Folder that paths are relative to.
    type: path
    required: true
  folder_mode:
    description: Mode of that folder.
    type: str
    default: "0755"
  modes:
    description: Path -> mode, of those whose mode is not 0644.
    type: dict
    default: {}
  owner:
    description: Who owns them.
    type: str
    default: root
  group:
    description: Their group.
    type: str
    default: root
author: tritoncluster
"""

EXAMPLES = """
- name: Write the settings
  node_files:
    folder: /opt/tritoncluster/worker
    files:
      .env: "WORKER_CPUS=2"
"""

RETURN = """
written:
  description: Paths of the files whose content changed.
  returned: always
  type: list
"""


def read(path: Path) -> str | None:
    """Give what is in a file, None when there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def write(module: AnsibleModule, path: Path, content: str) -> None:
    """Put a file in place, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(content)
    module.atomic_move(temporary, str(path), unsafe_writes=False)


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "files": {"type": "dict", "required": True},
            "folder": {"type": "path", "required": True},
            "folder_mode": {"type": "str", "default": "0755"},
            "modes": {"type": "dict", "default": {}},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    given = module.params
    folder = Path(given["folder"])

    def has_wrong_attributes(path: Path, mode: str) -> bool:
        if module.check_mode and not path.exists():
            return True
        wanted = dict.fromkeys(("attributes", "seuser", "serole", "setype", "selevel", "unsafe_writes"))
        wanted |= {"path": str(path), "mode": mode, "owner": given["owner"], "group": given["group"]}
        return module.set_fs_attributes_if_different(module.load_file_common_arguments(wanted), changed=False)

    changed = not folder.is_dir()
    if changed and not module.check_mode:
        folder.mkdir(parents=True, mode=0o700)
    changed |= has_wrong_attributes(folder, given["folder_mode"])
    written = []
    for name, content in given["files"].items():
        path = folder / name
        if read(path) != content:
            written.append(str(path))
            if not module.check_mode:
                write(module, path, content)
        changed |= has_wrong_attributes(path, given["modes"].get(name, "0644"))
    module.exit_json(changed=changed or bool(written), written=written)


if __name__ == "__main__":
    main()
