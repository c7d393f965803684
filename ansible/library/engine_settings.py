#!/usr/bin/python
"""Ansible module: settings of ours in the engine's file, beside those of the host's owner."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tritoncluster_engine import settings_of
from ansible.module_utils.tritoncluster_host import text, write

DOCUMENTATION = """
module: engine_settings
short_description: Add settings to the engine's, which the owner's precede
description: Notes what is added, so that it can be told from the owner's, who may change the file at any time.
options:
  settings:
    description: Settings to have where the owner has none for the same.
    type: dict
    default: {}
  record:
    description: File that keeps what was added, and what was there before.
    type: path
    required: true
  all_ours:
    description: Whether what is there without a record was added, by an earlier version that kept none.
    type: bool
    default: false
  path:
    description: The engine's file.
    type: path
    required: true
  state:
    description: Whether they are to be there; absent leaves the owner's.
    type: str
    choices: [present, absent]
    default: present
author: tritoncluster
"""

EXAMPLES = """
- name: Limit logs
  engine_settings:
    path: /etc/docker/daemon.json
    settings: {log-driver: local}
    record: /etc/tritoncluster/engine-settings.json
"""

RETURN = """
settings:
  description: All that are in the file now.
  returned: always
  type: dict
"""

#: Settings of which an engine takes one alone, or whose meaning depends on another.
CLASHES = {
    "bridge": ("bip", "bip6", "fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6"),
    "log-driver": ("log-opts",),
    "log-opts": ("log-driver",),
}


def of_the_owner(found: dict[str, object], added: dict[str, object]) -> dict[str, object]:
    """Leave out what was added, and is as it was added."""
    return {name: value for name, value in found.items() if name not in added or added[name] != value}


def missing(owners: dict[str, object], wanted: dict[str, object]) -> dict[str, object]:
    """Choose what there is room for beside the owner's."""
    taken = {name for name, others in CLASHES.items() if set(owners).intersection(others)}
    return {name: value for name, value in wanted.items() if name not in owners and name not in taken}


class Settings:
    """The engine's file, and the record of what was added to it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path, self.record = Path(module.params["path"]), Path(module.params["record"])
        self.content = self.path.read_text() if self.path.exists() else None
        noted = json.loads(text(str(self.record)) or "{}")
        if not noted:
            all_ours = module.params["all_ours"]
            noted = {
                "added": module.params["settings"] if all_ours else {},
                "before": None if all_ours else self.content,
            }
        self.added, self.before = noted["added"], noted["before"]
        found = settings_of(self.content or "")
        if found is None:
            module.fail_json(msg=f"{self.path} is no JSON that an engine could read: mend it, or remove it")
        self.found = found
        self.owners = of_the_owner(found, self.added)

    def have(self) -> bool:
        """Have ours there; tell whether that changes the file."""
        ours = missing(self.owners, self.module.params["settings"])
        wanted = {**self.owners, **ours}
        note = json.dumps({"added": ours, "before": self.before})
        if not self.module.check_mode and text(str(self.record)) != note:
            write(self.module, self.record, note)
        return self._put(json.dumps(wanted, indent=4) + "\n" if wanted != self.found else self.content)

    def leave(self) -> bool:
        """Have the owner's alone there, in the words that were there before if they say the same."""
        same = self.before is not None and settings_of(self.before) == self.owners
        content = self.before if same else json.dumps(self.owners, indent=4) + "\n" if self.owners else None
        changed = self._put(content if self.owners != self.found or not self.owners else self.content)
        if self.record.exists() and not self.module.check_mode:
            self.record.unlink()
        return changed

    def _put(self, content: str | None) -> bool:
        if content == self.content:
            return False
        if not self.module.check_mode:
            if content is None:
                self.path.unlink()
            else:
                write(self.module, self.path, content)
        self.found = settings_of(content or "") or {}
        return True


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "settings": {"type": "dict", "default": {}},
            "record": {"type": "path", "required": True},
            "all_ours": {"type": "bool", "default": False},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    settings = Settings(module)
    changed = settings.have() if module.params["state"] == "present" else settings.leave()
    module.exit_json(changed=changed, settings=settings.found)


if __name__ == "__main__":
    main()
