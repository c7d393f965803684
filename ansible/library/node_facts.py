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
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

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
    description: Folders whose file systems have to have room; they need not be there yet.
    type: list
    elements: str
    default: []
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


def text(path: str) -> str:
    """Read a file; "" when it can't be read."""
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def output(*command: str) -> str:
    """Give what a command prints; "" when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


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


def free(folder: str) -> int:
    """Give the free bytes of the file system that holds a folder, or will."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


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
                port = ports.get(str(open_file.readlink()).removeprefix("socket:[").removesuffix("]"))
                if port:
                    names[port] = text(f"{process}/comm")
        except OSError:
            continue
    return names


def engine() -> dict[str, object]:
    """Give the versions of the engine and of compose; "" for what is not there. Ours is the one that we installed."""
    versions = output("docker", "version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}").split()
    return {
        "installed": bool(shutil.which("dockerd")),
        "ours": Path("/etc/tritoncluster/engine-is-ours").exists(),
        "version": versions[0] if versions else "",
        "api": versions[1] if versions else "",
        "compose": output("docker", "compose", "version", "--short").removeprefix("v"),
        "starts": output("systemctl", "is-enabled", "docker.service") == "enabled",
    }


def images() -> dict[str, str]:
    """Give NAME@DIGEST -> ID of the images that came from a registry of ours."""
    there = output("docker", "image", "ls", "--all", "--quiet", "--no-trunc").split()
    words = "{{$image := .}}{{range .RepoDigests}}{{println . $image.Id}}{{end}}"
    found = output("docker", "image", "inspect", "--format", words, *there) if there else ""
    pairs = (line.split() for line in found.splitlines() if line)
    return {name: identity for name, identity in pairs if ":5000/tritoncluster/" in name}


def containers() -> dict[str, dict[str, str]]:
    """Give name -> state, image and definition of our containers; the last says what they were made from."""
    words = '{{.Names}} {{.State}} {{.Image}} {{.Label "tritoncluster.definition"}}'
    listed = output("docker", "ps", "--all", "--no-trunc", "--filter", "name=^tritoncluster-", "--format", words)
    found = {}
    for line in listed.splitlines():
        name, state, image, *definition = line.split()
        found[name.removeprefix("tritoncluster-")] = {
            "state": state,
            "image": image,
            "definition": "".join(definition),
        }
    return found


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
        "docker-registry": shutil.which("docker-registry"),
        "python3-requests": Path("/usr/lib/python3/dist-packages/requests").exists(),
        "skopeo": shutil.which("skopeo"),
    }
    return sorted(name for name, found in there.items() if found)


def firewall() -> dict[str, object]:
    """Name what decides about incoming connections, "" for nothing; its chain, without a command; our rules in it."""
    rules = output("ufw", "status")
    if "Status: active" in rules:
        return {"name": "ufw", "chain": "", "rules": our_rules(rules)}
    if output("firewall-cmd", "--state") == "running":
        return {"name": "firewalld", "chain": "", "rules": []}
    chain = closed_chain(json.loads(output("nft", "--json", "list", "ruleset") or "{}").get("nftables", []))
    return {"name": "nftables" if chain else "", "chain": chain, "rules": []}


def our_rules(status: str) -> list[dict[str, str]]:
    """Choose our rules of those that ufw lists: ports, protocol and source, in its own words."""
    found = re.findall(r"^(\S+)/(tcp|udp) +ALLOW +(\S+) +# tritoncluster$", status, re.MULTILINE)
    return [{"ports": ports, "protocol": protocol, "source": source} for ports, protocol, source in found]


def closed_chain(ruleset: list[dict[str, dict[str, object]]]) -> str:
    """Give the chain of an nftables ruleset that refuses what no rule of it lets in, as "inet filter input"; or ""."""
    for chain in (each["chain"] for each in ruleset if "chain" in each):
        if chain.get("hook") != "input" or chain["family"] == "ip6":
            continue
        place = (chain["family"], chain["table"], chain["name"])
        rules = [each["rule"] for each in ruleset if "rule" in each]
        own = [rule["expr"] for rule in rules if (rule["family"], rule["table"], rule["chain"]) == place]
        words = [{word for statement in rule for word in statement} for rule in own]
        if chain["policy"] == "drop" or any(found & {"drop", "reject"} and "match" not in found for found in words):
            return " ".join(place)
    return ""


def registries(folder: str = "/etc/docker/certs.d", authority: str = "/etc/tritoncluster/tls/ca.crt") -> list[str]:
    """List the registries of ours that the engine knows; those at earlier addresses too."""
    ours = text(authority)
    return sorted(path.name for path in Path(folder).glob("*") if ours and text(f"{path}/ca.crt") == ours)


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
            "board": {"type": "str", "default": "/proc/device-tree/model"},
        },
        supports_check_mode=True,
    )
    ahead = time.time() - module.params["controller_time"]
    system = release()
    chosen = address(module.params["address"], module.params["connected_to"])
    module.exit_json(
        ansible_facts={
            "node": {
                "address": chosen if is_address(chosen) else "",
                "addresses": addresses(),
                "architecture": output("dpkg", "--print-architecture"),
                "board": text(module.params["board"]),
                "clock": round(ahead, 1),
                "container": bool(output("systemd-detect-virt", "--container")),
                "containers": containers(),
                "cpus": cpus(),
                "engine": engine(),
                "firewall": firewall(),
                "free": {folder: free(folder) for folder in module.params["folders"]},
                "images": images(),
                "in_registry": in_registry(),
                "limits_memory": limits_memory(),
                "listeners": listeners(),
                "memory": memory(),
                "noted": Path("/etc/tritoncluster/packages-before").exists(),
                "packages": packages(),
                "registries": registries(),
                "release": {
                    "id": system.get("ID", ""),
                    "version": system.get("VERSION_ID", ""),
                    "name": system.get("PRETTY_NAME", ""),
                },
                "services": services(),
                "time": clock(),
                "user": user(),
            }
        }
    )


if __name__ == "__main__":
    main()
