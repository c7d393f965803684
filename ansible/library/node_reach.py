#!/usr/bin/python
"""Ansible module: which hosts this one does not reach; nothing is changed."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: node_reach
short_description: Find the hosts that this one does not reach
description: A host that refuses a connection is reached; one that says nothing on any of the ports is not.
options:
  hosts:
    description: Name -> address.
    type: dict
    required: true
  ports:
    description: TCP ports to try, of which one has to answer.
    type: list
    elements: int
    required: true
  timeout:
    description: Seconds to wait for an answer.
    type: float
    default: 3.0
author: tritoncluster
"""

EXAMPLES = """
- name: Try the others
  node_reach:
    hosts: {laptop: 192.168.1.5}
    ports: [22, 8786]
"""

RETURN = """
unreached:
  description: Name -> address of those that did not answer.
  returned: always
  type: dict
"""


def unreached(hosts: dict[str, str], ports: list[int], timeout: float) -> dict[str, str]:
    """Choose the hosts that do not answer, as name -> address; one answer of a host is enough."""
    silent, end = dict(hosts), time.monotonic() + timeout
    with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as waiting:
        for name, address in hosts.items():
            for port in ports:
                probe = sockets.enter_context(socket.socket())
                probe.settimeout(0)
                if said(probe.connect_ex((address, port))):
                    silent.pop(name, None)
                else:
                    waiting.register(probe, selectors.EVENT_WRITE, name)
        while silent and time.monotonic() < end and waiting.get_map():
            for key, _ in waiting.select(max(0, end - time.monotonic())):
                waiting.unregister(key.fileobj)
                if said(key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    silent.pop(key.data, None)
    return silent


def said(error: int) -> bool:
    """Tell whether an attempt to connect had an answer of the host itself."""
    return error in (0, errno.ECONNREFUSED)


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "hosts": {"type": "dict", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "timeout": {"type": "float", "default": 3.0},
        },
        supports_check_mode=True,
    )
    silent = unreached(*(module.params[name] for name in ("hosts", "ports", "timeout")))
    module.exit_json(changed=False, unreached=dict(sorted(silent.items())))


if __name__ == "__main__":
    main()
