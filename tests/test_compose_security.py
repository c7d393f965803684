"""Who is let in, and what a container may do."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_project import Project, complaint

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: Starts as many as it can, and prints how many that were and why no more.
COUNT_PROCESSES = """
import subprocess
started = []
try:
    while len(started) < 2000:
        started.append(subprocess.Popen(["sleep", "60"]))
except OSError as error:
    print(len(started), error.errno)
for process in started:
    process.kill()
"""
#: Prints the sizes to which workers limit what they put on disk.
SPILL_LIMITS = """
from distributed import Client
print(set(Client().run(lambda dask_worker: dask_worker.data._slow_uncached.max_weight).values()))
"""
SERVICES = ["scheduler", "worker", "gateway", "jobs"]


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True)


@pytest.fixture(scope="module")
def bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a client outside of the containers has: ca.crt, tls.crt and tls.key."""
    return project.bundle(tmp_path_factory.mktemp("bundle"))


def client(address: str, authority: Path | None = None, pair: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Ask the doctor about a cluster, from outside of the containers."""
    settings = {
        "CA_FILE": authority,
        "CLIENT__CERT": pair and pair / "tls.crt",
        "CLIENT__KEY": pair and pair / "tls.key",
    }
    given = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items() if path}
    command = [sys.executable, "-m", "tritoncluster", "--scheduler", address, "doctor"]
    return subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=False)


@pytest.fixture
def address(project: Project) -> str:
    return f"127.0.0.1:{project.settings['SCHEDULER_PORT']}"


@pytest.fixture
def refusals(project: Project) -> Iterator[list[str]]:
    """What the scheduler says about connections that it refuses during a test; filled when the test ends."""
    since = f"{time.time():.3f}"
    found: list[str] = []
    yield found
    log = project.compose("logs", "--no-color", "--since", since, "scheduler").stdout
    reasons = re.findall(r"TLS handshake failed with remote .*", log)
    assert reasons, log
    assert any(found[0] in reason for reason in reasons), reasons


def test_a_client_with_the_bundle_is_let_in(project: Project, address: str, bundle: Path) -> None:
    done = client(f"tls://{address}", bundle / "ca.crt", bundle)
    ask = "import sys; print(*sys.version_info[:2], sep='.')"
    theirs = project.execute(project.names("scheduler")[0], "python3", "-c", ask).strip()
    ours = ".".join(map(str, sys.version_info[:2]))
    if ours == theirs:
        assert "workers: 2 with 2 threads" in done.stdout, done.stderr
    else:
        # Its certificate is good; who refuses it is the scheduler, for its Python.
        assert f"its Python is {ours}, the cluster's is {theirs}" in complaint(done, status=2)


def test_a_client_without_tls_is_refused(address: str, refusals: list[str]) -> None:
    assert "TLS" in complaint(client(f"tcp://{address}"), status=2)
    refusals.append("WRONG_VERSION_NUMBER")


def test_a_client_of_another_authority_is_refused(
    address: str, refusals: list[str], tmp_path: Path, bundle: Path
) -> None:
    names = ["-subj", "/CN=tritoncluster client", "-addext", "extendedKeyUsage=clientAuth"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt"]
    openssl("req", "-x509", *names, *key)
    # It even knows whom to trust.
    assert "of one authority" in complaint(client(f"tls://{address}", bundle / "ca.crt", tmp_path), status=2)
    refusals.append("CERTIFICATE_VERIFY_FAILED")


def test_a_client_without_a_certificate_is_refused(address: str, refusals: list[str], bundle: Path) -> None:
    command = ["openssl", "s_client", "-connect", address, "-CAfile", bundle / "ca.crt", "-ign_eof"]
    done = subprocess.run(command, input="x", capture_output=True, text=True, check=False)
    assert "certificate required" in done.stderr
    refusals.append("PEER_DID_NOT_RETURN_A_CERTIFICATE")


def test_a_client_can_not_pass_itself_off_as_a_scheduler(bundle: Path) -> None:
    text = subprocess.run(["openssl", "x509", "-in", bundle / "tls.crt", "-noout", "-ext", "extendedKeyUsage"],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert "Client Authentication" in text
    assert "Server" not in text


def test_only_two_ports_are_published_and_on_loopback(project: Project) -> None:
    published = {}
    for service in [*SERVICES, "demonstration", "setup"]:
        for container in project.inspect(service):
            for inside, places in container["HostConfig"]["PortBindings"].items():
                published[inside] = [(place["HostIp"], int(place["HostPort"])) for place in places]
    ports = {"8786/tcp": "SCHEDULER_PORT", "8787/tcp": "DASHBOARD_PORT"}
    assert published == {inside: [("127.0.0.1", project.settings[name])] for inside, name in ports.items()}
    listening = subprocess.run(["ss", "-tlnH"], capture_output=True, text=True, check=True).stdout
    for port in (project.settings[name] for name in ports.values()):
        assert {line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(f":{port}")} == {
            f"127.0.0.1:{port}"
        }


def test_containers_listen_on_what_is_known(project: Project) -> None:
    known = {"scheduler": {8786}, "worker": {8800, 8900}, "gateway": {8787}, "jobs": set()}
    for service, ports in known.items():
        for name in project.names(service):
            lines = project.execute(name, "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
            # State 0A listens; 0100007F is loopback, where Docker's own name server is too.
            sockets = [
                line.split()[1].split(":") for line in lines if len(line.split()) > 3 and line.split()[3] == "0A"
            ]
            outside = {int(port, 16) for place, port in sockets if not place.endswith("7F")}
            assert outside == ports, service


@pytest.mark.parametrize("service", SERVICES)
def test_hardening(project: Project, service: str) -> None:
    for container in project.inspect(service):
        host, name = container["HostConfig"], container["Name"].strip("/")
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["CapAdd"] is None
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Init"]
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        status = project.execute(name, "cat", "/proc/1/status")
        assert re.search(r"^Uid:\s+1000\s", status, re.MULTILINE)
        assert set(re.findall(r"^Cap\w+:\s+(\w+)", status, re.MULTILINE)) == {"0" * 16}
        assert "NoNewPrivs:\t1" in status


def test_processes_are_limited(project: Project) -> None:
    (name, _) = project.names("worker")
    number, error = project.execute(name, "python3", "-c", COUNT_PROCESSES).split()
    assert int(number) < 512
    assert error == "11"
    project.wait_until_healthy()


def test_keys_are_for_their_users_alone(project: Project) -> None:
    for service in SERVICES:
        folder = "/run/secrets" if service == "gateway" else "/run/tls"
        name = project.names(service)[0]
        for line in project.execute(name, "stat", "--format", "%n %a %u", *files(project, name, folder)).splitlines():
            path, mode, owner = line.split()
            if path.endswith((".key", "htpasswd")):
                assert (mode, owner) == ("600", "1000"), line
            else:
                assert mode == "644", line
        assert "ca.key" not in project.execute(name, "find", "/run", "/secrets", "-name", "*.key")
        assert "Read-only" in project.execute(name, "sh", "-c", f"touch {folder}/x 2>&1")


def files(project: Project, name: str, folder: str) -> list[str]:
    return project.execute(name, "find", folder, "-type", "f").split()


def test_what_is_spilled_goes_to_a_disk_and_is_limited(project: Project) -> None:
    name = project.names("worker")[0]
    assert project.execute(name, "stat", "--file-system", "--format", "%T", "/work").strip() != "tmpfs"
    (project.scripts / "spill.py").write_text(SPILL_LIMITS)
    done = project.workload("submit", "spill.py")
    assert done.stdout == f"{{{150 * 2**20}}}\n", done.stderr
