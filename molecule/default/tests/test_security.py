"""Who has no certificate of the cluster's gets nothing, from the controller's side."""

import base64
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import ADDRESSES, PKI, index, on

SCHEDULER = ADDRESSES["desktop"]
#: Mutual TLS: scheduler, registry, and the workers' and nannies' ports.
CLOSED = [(SCHEDULER, 8786), (SCHEDULER, 5000), *((address, 8800) for address in ADDRESSES.values())]
CLOSED += [(ADDRESSES[name], 8900) for name in ("desktop", "pi")]


def context(certificate=None):
    """Trust the cluster; show a certificate, if any."""
    found = ssl.create_default_context(cafile=PKI / "cluster/ca.crt")
    found.check_hostname = False
    if certificate:
        found.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    return found


def answer(address, port, trust, sent=b"GET /v2/ HTTP/1.0\r\n\r\n"):
    """Say hello over TLS, and give what comes back."""
    with socket.create_connection((address, port), 10) as raw, trust.wrap_socket(raw) as connection:
        connection.settimeout(10)
        connection.sendall(sent)
        return connection.recv(100)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A certificate of another authority, of the same name."""
    folder = tmp_path_factory.mktemp("foreign")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1",
         "-subj", "/CN=tritoncluster client", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(("address", "port"), CLOSED)
def test_plain_text_is_refused(address, port):
    with socket.create_connection((address, port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            received = connection.recv(100)
        except ConnectionResetError:
            received = b""
    # Go's server says in plain text that it wants TLS.
    assert not received or received.startswith((b"\x15\x03", b"HTTP/1.0 400"))


@pytest.mark.parametrize(("address", "port"), CLOSED)
def test_no_certificate_is_refused(address, port):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert answer(address, port, context()) == b"refused"


@pytest.mark.parametrize(("address", "port"), CLOSED)
def test_a_foreign_certificate_is_refused(address, port, foreign):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert answer(address, port, context(foreign)) == b"refused"


def test_the_registry_lets_hosts_in_and_nobody_else():
    assert b"200 OK" in answer(SCHEDULER, 5000, context(PKI / "hosts/laptop"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert answer(SCHEDULER, 5000, context(PKI / "client")) == b"refused"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "blobs/uploads/"), ("PUT", "manifests/x"), ("DELETE", "manifests/{}")]
)
def test_the_registry_takes_nothing_from_hosts_and_removes_nothing(method, path):
    path = path.format(index("gateway")[0])
    sent = f"{method} /v2/tritoncluster/gateway/{path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode()
    assert b" 405 " in answer(SCHEDULER, 5000, context(PKI / "hosts/desktop"), sent)


def test_the_registry_refuses_a_pull_without_a_certificate():
    host = on("laptop")
    folder = f"/etc/docker/certs.d/{SCHEDULER}:5000"
    image = f"{SCHEDULER}:5000/tritoncluster/gateway@{index('gateway')[0]}"
    host.check_output(f"mv {folder}/client.cert /root/ && mv {folder}/client.key /root/")
    try:
        refused = host.run(f"docker pull {image}")
    finally:
        host.check_output(f"mv /root/client.cert /root/client.key {folder}/")
    assert refused.rc != 0
    assert "certificate required" in refused.stderr, refused.stderr


def dashboard(user, password):
    """Give the status with which the dashboard answers somebody."""
    trust = ssl.create_default_context(cafile=PKI / "dashboard/ca.crt")
    request = urllib.request.Request(f"https://{SCHEDULER}:8787/health")
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer_:
            return answer_.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_dashboard_wants_everybody_s_own_password():
    files = {"client": "gateway/password", "teacher": "clients/teacher/password", "guest": "clients/guest/password"}
    passwords = {name: (PKI / file).read_text().strip() for name, file in files.items()}
    for user in passwords:
        assert {name for name, password in passwords.items() if dashboard(user, password) == 200} == {user}
    assert dashboard("dask", passwords["client"]) == dashboard("", "") == 401


def test_the_authority_of_browsers_signs_for_the_dashboard_alone(tmp_path):
    for name, good in {
        "DNS:desktop": True,
        f"IP:{SCHEDULER}": True,
        "DNS:evil.example": False,
        "IP:10.0.0.1": False,
    }.items():
        authority = ["-CA", PKI / "dashboard/ca.crt", "-CAkey", PKI / "dashboard/ca.key", "-out", tmp_path / "crt"]
        subject = ["-subj", "/CN=tritoncluster page", "-addext", f"subjectAltName={name}", "-days", "1"]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", tmp_path / "key"]
        subprocess.run(["openssl", "req", "-x509", *key, *subject, *authority], check=True, capture_output=True)
        command = ["openssl", "verify", "-CAfile", PKI / "dashboard/ca.crt", tmp_path / "crt"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode == 0) == good, name
        assert good or "permitted subtree violation" in done.stderr
