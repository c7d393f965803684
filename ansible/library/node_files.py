#!/usr/bin/python
"""Ansible module: folders of small files, all in one go."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tritoncluster_host import write

DOCUMENTATION = """
module: node_files
short_description: Write folders of small files in one go
description:
  - As ansible.builtin.copy with content does for one, which takes two connections for each file. With the dozens of
    files that a host gets, that would be most of the time of a run that changes nothing.
options:
  folders:
    description:
      - Each with its path and, where they are not the defaults, owner (root), group (the owner), mode ("0755"),
        files as name -> content (none), and modes as name -> mode of the files whose mode is not 0644.
    type: list
    elements: dict
    required: true
author: tritoncluster
"""

EXAMPLES = """
- name: Write the settings
  node_files:
    folders:
      - path: /opt/tritoncluster/worker
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


class Folder:
    """A folder with its files, as they should be."""

    def __init__(self, module: AnsibleModule, path: str, owner: str, group: str, mode: str) -> None:
        self.module, self.path, self.owner, self.group = module, Path(path), owner, group
        self.changed = not self.path.is_dir()
        self.written: list[str] = []
        if self.changed and not module.check_mode:
            self.path.mkdir(parents=True, mode=0o755)
        self._put_right(self.path, mode)

    def put(self, name: str, content: str, mode: str) -> None:
        """Have a file in it."""
        path = self.path / name
        if read(path) != content:
            self.changed = True
            self.written.append(str(path))
            if not self.module.check_mode:
                write(self.module, path, content)
        self._put_right(path, mode)

    def _put_right(self, path: Path, mode: str) -> None:
        if self.module.check_mode and not path.exists():
            return
        wanted = dict.fromkeys(("attributes", "seuser", "serole", "setype", "selevel", "unsafe_writes"))
        wanted.update(path=str(path), mode=mode, owner=self.owner, group=self.group)
        arguments = self.module.load_file_common_arguments(wanted)
        self.changed |= self.module.set_fs_attributes_if_different(arguments, changed=False)


def main() -> None:
    """Answer Ansible."""
    options = {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str"},
        "mode": {"type": "str", "default": "0755"},
        "files": {"type": "dict", "default": {}},
        "modes": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(
        {"folders": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )
    changed, written = False, []
    for given in module.params["folders"]:
        owner = given["owner"]
        folder = Folder(module, given["path"], owner, given["group"] or owner, given["mode"])
        for name, content in given["files"].items():
            folder.put(name, content, given["modes"].get(name, "0644"))
        changed |= folder.changed
        written += folder.written
    module.exit_json(changed=changed, written=written)


if __name__ == "__main__":
    main()
