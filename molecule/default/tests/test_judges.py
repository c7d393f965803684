"""What judges say who know nothing of this project: nmap and sslscan, from another host, and a CIS benchmark."""

import re

import pytest
from conftest import ADDRESSES, HOSTS, containers, on
from test_hosts import OUTSIDE, SERVICES

#: Who looks at whom.
FROM = {"desktop": "laptop", "laptop": "desktop", "pi": "desktop"}
#: With forward secrecy, and authenticating what they encrypt.
GOOD = re.compile(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)|TLS_(AES|CHACHA20)_\w+")
TLS_PORTS = [("desktop", 5000), ("desktop", 8786), ("desktop", 8787), ("desktop", 8800), ("desktop", 8900)]


@pytest.mark.parametrize("name", HOSTS)
def test_nmap_finds_the_ports_that_are_declared_and_no_other(name):
    command = f"nmap -n -Pn -p- --open --min-rate 3000 --max-retries 3 -oG - {ADDRESSES[name]}"
    found = on(FROM[name]).check_output(command)
    assert {int(port) for port in re.findall(r"(\d+)/open/tcp", found)} == OUTSIDE[name], found


@pytest.mark.parametrize(("name", "port"), TLS_PORTS)
def test_sslscan_finds_what_is_good_and_nothing_else(name, port):
    own = "--certs=/etc/tritoncluster/tls/tls.crt --pk=/etc/tritoncluster/tls/tls.key"
    options = f"--no-colour --no-check-certificate --no-heartbleed --no-groups {own} --xml=-"
    found = on(FROM[name]).check_output(f"sslscan {options} {ADDRESSES[name]}:{port}")
    assert re.findall(r'<protocol type="(\w+)" version="([\d.]+)" enabled="1"', found) == [
        ("tls", "1.2"),
        ("tls", "1.3"),
    ]
    ciphers = re.findall(r'<cipher [^>]*\bcipher="([^"]+)"', found)
    assert ciphers
    assert [cipher for cipher in ciphers if not GOOD.fullmatch(cipher)] == []


def options(container, name):
    return [each.partition("=")[2] for each in container["HostConfig"]["SecurityOpt"] or [] if each.startswith(name)]


#: Folders of the host that no container may write to, and what it reads there.
SYSTEM = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
#: CIS Docker Benchmark 1.6, section 5, "container runtime": what each container has to be, or why that is not asked.
RUNTIME = {
    "5.1 AppArmor profile": lambda each: "unconfined" not in options(each, "apparmor"),
    "5.2 SELinux": "Debian and its kin have AppArmor; SELinux is off there",
    "5.3 capabilities": lambda each: each["HostConfig"]["CapDrop"] == ["ALL"] and not each["HostConfig"]["CapAdd"],
    "5.4 not privileged": lambda each: not each["HostConfig"]["Privileged"],
    "5.5 no folders of the system": lambda each: not {one["Source"] for one in each["Mounts"]} & set(SYSTEM),
    "5.6 no sshd": lambda each: "sshd" not in each["processes"],
    "5.7 no privileged ports": lambda each: not each["HostConfig"]["PortBindings"],
    "5.8 needed ports alone": "none is published; nmap, above, finds those that are listened to",
    "5.9 not the host's network": "hosts find each other at fixed ports, which Dask and published ones do not allow; "
    "each port but the gateway's wants a certificate, no process has a capability in that network",
    "5.10 memory is limited": lambda each: each["HostConfig"]["Memory"] > 0,
    "5.11 CPU is limited": lambda each: each["HostConfig"]["NanoCpus"] > 0,
    "5.12 root is read-only": lambda each: each["HostConfig"]["ReadonlyRootfs"],
    "5.13 bound to an interface": lambda each: not each["HostConfig"]["PortBindings"],
    "5.14 restarted at most five times": "what is restarted is refused by nobody: a worker has to be back whenever its "
    "scheduler is, however long that takes",
    "5.15 own processes": lambda each: each["HostConfig"]["PidMode"] != "host",
    "5.16 own IPC": lambda each: each["HostConfig"]["IpcMode"] in ("private", "shareable", "none"),
    "5.17 no devices": lambda each: not each["HostConfig"]["Devices"],
    "5.18 default ulimits": lambda each: not each["HostConfig"]["Ulimits"],
    "5.19 no shared mounts": lambda each: "shared" not in {one["Propagation"] for one in each["Mounts"]},
    "5.20 own UTS": lambda each: each["HostConfig"]["UTSMode"] != "host",
    "5.21 default seccomp": lambda each: "unconfined" not in options(each, "seccomp"),
    "5.22 no privileged exec": "nothing executes so; it is root's, who is the owner",
    "5.23 no exec as root": "nothing executes so; it is root's, who is the owner",
    "5.24 default cgroup": lambda each: not each["HostConfig"]["CgroupParent"],
    "5.25 no new privileges": lambda each: "no-new-privileges:true" in each["HostConfig"]["SecurityOpt"],
    "5.26 health is checked": lambda each: each["State"]["Health"]["Status"] == "healthy",
    "5.27 the image that is meant": lambda each: "@sha256:" in each["Config"]["Image"],
    "5.28 processes are limited": lambda each: each["HostConfig"]["PidsLimit"] > 0,
    "5.29 not the bridge docker0": lambda each: "bridge" not in each["NetworkSettings"]["Networks"],
    "5.30 not the host's users": lambda each: each["HostConfig"]["UsernsMode"] != "host",
    "5.31 no engine's socket": lambda each: not [one for one in each["Mounts"] if "docker.sock" in one["Source"]],
}


@pytest.fixture(scope="module")
def described():
    """Each container of each host, with the names of its processes."""
    found = {}
    for name in HOSTS:
        for service, container in containers(on(name)).items():
            processes = on(name).check_output(f"docker top tritoncluster-{service} -eo pid,comm").split()
            found[f"{name} {service}"] = container | {"processes": processes}
    assert len(found) == sum(map(len, SERVICES.values()))
    return found


@pytest.mark.parametrize("line", [line for line, check in RUNTIME.items() if callable(check)])
def test_the_cis_docker_benchmark_s_runtime_section(described, line):
    assert [name for name, container in described.items() if not RUNTIME[line](container)] == []


def test_what_is_not_asked_of_containers_has_a_reason():
    assert [line.split()[0] for line in RUNTIME] == [f"5.{number}" for number in range(1, 32)]
    assert all(callable(check) or len(check) > 20 for check in RUNTIME.values())
