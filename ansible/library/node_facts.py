#!/usr/bin/python
"""Ansible module: what deploying has to know of a host, read in one go; nothing is changed."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import re
import shutil
import socket
import time
from pathlib import Path

from ansible.module_utils import tritoncluster_cmdline as cmdline
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tritoncluster_engine import containers, engine, images, registries
from ansible.module_utils.tritoncluster_firewall import firewall
from ansible.module_utils.tritoncluster_host import output, text

DOCUMENTATION = """
module: node_facts
short_description: Read what deploying has to know of a host
description: Everything is read as the host itself sees it, as the userland's architecture rather than the kernel's.
options:
  address:
    description: Address at which the other hosts reach this one; empty for the one of the route to the outside.
    type: str
    default: ""
  connected_to:
    description: What the controller connects to; it is the address when it is one of the host's.
    type: str
    default: ""
  controller_time:
    description: Seconds since 1970 on the controller.
    type: float
    required: true
  folders:
    description: Folders whose file systems have to have room, beside the engine's own; they need not be there yet.
    type: list
    elements: str
    default: []
  own_folders:
    description: Folders of which it has to be known whose they are.
    type: list
    elements: str
    default: []
  boot:
    description: Folder of the boot partition, on a Raspberry Pi.
    type: str
    default: /boot/firmware
  board:
    description: File that names the board of a small computer.
    type: str
    default: /proc/device-tree/model
author: tritoncluster
"""

EXAMPLES = """
- name: Look at the host
  node_facts:
    controller_time: "{{ now().timestamp() }}"
"""

RETURN = """
ansible_facts:
  description: One entry, node.
  returned: always
  type: dict
"""

#: From here on, a memory limit is the kernel's way to say that there is none.
UNLIMITED = 2**60
TCP_LISTEN = "0A"


def addresses() -> list[str]:
    """List the IPv4 addresses of the host's interfaces, without loopback."""
    found = json.loads(output("ip", "-json", "-4", "address", "show", "scope", "global") or "[]")
    return [each["local"] for link in found for each in link.get("addr_info", [])]


def outward() -> str:
    """Give the address that packets to the outside carry; "" without a route there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing. The address is one that documentation uses.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return probe.getsockname()[0]


def address(wanted: str, connected_to: str) -> str:
    """Choose the address under which the other hosts know this one."""
    own = addresses()
    if wanted:
        return wanted
    if connected_to in own:
        return connected_to
    return outward() or (own[0] if own else "")


def release() -> dict[str, str]:
    """Read /etc/os-release."""
    pairs = re.findall(r"^(\w+)=[\"']?(.*?)[\"']?$", text("/etc/os-release"), re.MULTILINE)
    return dict(pairs)


def cpus() -> float:
    """Give the processors that there are, or the share of their time that the topmost control group may have."""
    have = float(len(os.sched_getaffinity(0)))
    quota, _, period = text("/sys/fs/cgroup/cpu.max").partition(" ")
    for folder in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        quota = quota or text(f"/sys/fs/cgroup/{folder}/cpu.cfs_quota_us")
        period = period or text(f"/sys/fs/cgroup/{folder}/cpu.cfs_period_us")
    if quota.isdecimal() and period.isdecimal() and int(period):
        have = min(have, int(quota) / int(period))
    return have


def memory() -> int:
    """Give the bytes that there are, or that the topmost control group may have."""
    (have,) = re.findall(r"^MemTotal: +(\d+) kB", text("/proc/meminfo"), re.MULTILINE)
    limits = [text(f"/sys/fs/cgroup/{file}") for file in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([int(have) * 1024, *(int(limit) for limit in limits if limit.isdecimal() and int(limit) < UNLIMITED)])


def limits_memory() -> bool:
    """Tell whether the kernel can limit the memory of containers."""
    return (
        "memory" in text("/sys/fs/cgroup/cgroup.controllers").split()
        or Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
    )


def apparmor(container: str, folder: str = "/sys/module/apparmor") -> bool:
    """Tell whether the kernel wants a profile of AppArmor for each container, which something has to load then."""
    return not container and text(f"{folder}/parameters/enabled") == "Y"


def free(folder: str) -> int:
    """Give the free bytes of the file system that holds a folder, or will."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def owner(folder: str) -> str:
    """Name whose a folder is; "" when there is none yet."""
    try:
        number = Path(folder).stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def scratch(env: str) -> list[str]:
    """List the folder of the workers' scratch; the owner's, which an earlier version took, is not ours."""
    return re.findall(r"^WORKER_SCRATCH=((?:/.*)?/tritoncluster-scratch)$", env, re.MULTILINE)


def is_noted(before: str) -> bool:
    """Tell whether a list has the packages that were here before; a power cut may have emptied it."""
    return "dpkg" in before.splitlines()


def root(mounts: str) -> dict[str, object]:
    """Give the kind of the root's file system, and whether it can be written."""
    kind, options = "", ""
    for line in mounts.splitlines():
        # What is mounted last covers what was there before.
        _, place, its_kind, its_options, *_ = line.split()
        if place == "/":
            kind, options = its_kind, its_options
    return {"kind": kind, "writable": "ro" not in options.split(",")}


def nests() -> bool:
    """Tell whether a container may hold containers: they want a /proc of their own. Nothing of it stays."""
    return output("unshare", "--mount", "--pid", "--fork", "--mount-proc", "echo", "yes") == "yes"


def listeners() -> dict[str, str]:
    """Give TCP port -> who listens on it, on any address."""
    ports = {}
    for table in ("tcp", "tcp6"):
        for line in text(f"/proc/net/{table}").splitlines()[1:]:
            local, state, inode = (line.split()[number] for number in (1, 3, 9))
            if state == TCP_LISTEN:
                ports[inode] = str(int(local.rpartition(":")[2], 16))
    names = dict.fromkeys(ports.values(), "another program")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for open_file in (process / "fd").iterdir():
                port = ports.get(os.readlink(str(open_file))[len("socket:[") : -1])  # noqa: PTH115 - newer than 3.8
                if port:
                    names[port] = text(f"{process}/comm")
        except OSError:
            continue
    return names


def clock() -> dict[str, object]:
    """Give what keeps the time, and whether that is ours. Asking whether the time is right would start a service."""
    daemon = "systemd-timesyncd" if Path("/usr/lib/systemd/systemd-timesyncd").exists() else ""
    return {
        "daemon": "chrony" if shutil.which("chronyd") else daemon,
        "ours": Path("/etc/tritoncluster/chrony-is-ours").exists(),
    }


def user(name: str = "tritoncluster") -> str:
    """Give the numbers of our user and its group, as 998:998; "" when there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return ""
    return f"{found.pw_uid}:{found.pw_gid}"


def in_registry(folder: str = "/var/lib/tritoncluster/registry") -> list[str]:
    """List what the registry on this host has, as NAME@DIGEST; a digest is there when all that it names is."""
    root = Path(folder, "docker/registry/v2/repositories/tritoncluster")
    links = root.glob("*/_manifests/revisions/sha256/*/link")
    return sorted(f"{link.parents[4].name}@sha256:{link.parent.name}" for link in links)


def packages() -> list[str]:
    """List what is installed of the packages that deploying needs; asking apt takes far longer."""
    there = {
        "apparmor": shutil.which("apparmor_parser"),
        "docker-registry": shutil.which("docker-registry"),
        "python3-requests": Path("/usr/lib/python3/dist-packages/requests").exists(),
        "skopeo": shutil.which("skopeo"),
    }
    return sorted(name for name, found in there.items() if found)


def services(folder: str = "/opt/tritoncluster") -> list[str]:
    """List what of ours is on this host."""
    return sorted(path.name for path in Path(folder).glob("*"))


def is_address(word: str) -> bool:
    """Tell whether this is a number rather than a name."""
    try:
        ipaddress.IPv4Address(word)
    except ValueError:
        return False
    return True


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        {
            "address": {"type": "str", "default": ""},
            "connected_to": {"type": "str", "default": ""},
            "controller_time": {"type": "float", "required": True},
            "folders": {"type": "list", "elements": "str", "default": []},
            "own_folders": {"type": "list", "elements": "str", "default": []},
            "boot": {"type": "str", "default": "/boot/firmware"},
            "board": {"type": "str", "default": "/proc/device-tree/model"},
        },
        supports_check_mode=True,
    )
    ahead = time.time() - module.params["controller_time"]
    system = release()
    chosen = address(module.params["address"], module.params["connected_to"])
    docker = engine()
    board, boot, running = text(module.params["board"]), module.params["boot"], text(cmdline.RUNNING)
    limited, container = limits_memory(), output("systemd-detect-virt", "--container")
    module.exit_json(
        ansible_facts={
            "node": {
                "address": chosen if is_address(chosen) else "",
                "addresses": addresses(),
                "apparmor": apparmor(container),
                "authorities": text("/etc/tritoncluster/tls/ca.crt"),
                "architecture": output("dpkg", "--print-architecture"),
                "board": board,
                "boot": cmdline.problem(boot, limits=limited, running=running) if "Raspberry Pi" in board else "",
                "clock": round(ahead, 1),
                "container": container,
                "containers": containers(),
                "cpus": cpus(),
                "engine": docker,
                "firewall": firewall(),
                "free": {folder: free(folder) for folder in [docker["root"], *module.params["folders"]]},
                "images": images(),
                "in_registry": in_registry(),
                "limits_memory": limited,
                "listeners": listeners(),
                "memory": memory(),
                "nests": not container or nests(),
                "noted": is_noted(text("/etc/tritoncluster/packages-before")),
                "owners": {folder: owner(folder) for folder in module.params["own_folders"]},
                "packages": packages(),
                "refusals": text("/etc/tritoncluster/tls/ca.crl"),
                "registries": registries(),
                "release": {
                    "id": system.get("ID", ""),
                    "version": system.get("VERSION_ID", ""),
                    "name": system.get("PRETTY_NAME", ""),
                },
                "root": root(text("/proc/mounts")),
                "scratch": scratch(text("/opt/tritoncluster/worker/.env")),
                "services": services(),
                "time": clock(),
                "user": user(),
            }
        }
    )


if __name__ == "__main__":
    main()
