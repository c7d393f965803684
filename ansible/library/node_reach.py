#!/usr/bin/python
"""Ansible module: which hosts this one does not reach; nothing is changed."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

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
  description: Names and addresses of those that did not answer.
  returned: always
  type: list
"""


def answers(address: str, port: int, timeout: float) -> bool:
    """Tell whether anything came back."""
    try:
        socket.create_connection((address, port), timeout).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


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
    hosts, ports, timeout = (module.params[name] for name in ("hosts", "ports", "timeout"))
    pairs = [(address, port) for address in hosts.values() for port in ports]
    with ThreadPoolExecutor(max(len(pairs), 1)) as pool:
        found = dict(zip(pairs, pool.map(lambda pair: answers(*pair, timeout), pairs)))
    module.exit_json(
        changed=False,
        unreached=[
            f"{name} ({address})"
            for name, address in sorted(hosts.items())
            if not any(found[address, port] for port in ports)
        ],
    )


if __name__ == "__main__":
    main()
