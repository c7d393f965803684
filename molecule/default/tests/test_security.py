"""Who has no certificate of the cluster's gets nothing, from the controller's side."""

import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import ADDRESSES, PKI, index, on

SCHEDULER = ADDRESSES["desktop"]
#: Mutual TLS: scheduler, registry, and the workers' and nannies' ports.
CLOSED = [(SCHEDULER, 8786), (SCHEDULER, 5000)]
CLOSED += [(address, port) for address in ADDRESSES.values() for port in (8800, 8900)]


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


def test_the_cluster_s_own_is_let_in():
    assert b"200 OK" in answer(SCHEDULER, 5000, context(PKI / "client"))


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


def test_the_dashboard_wants_the_password():
    trust = ssl.create_default_context(cafile=PKI / "dashboard/ca.crt")
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    url = f"https://{SCHEDULER}:8787/health"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust)).open(url, timeout=10)
    passwords.add_password(None, url, "dask", (PKI / "gateway/password").read_text().strip())
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=trust), urllib.request.HTTPBasicAuthHandler(passwords)
    )
    assert opener.open(url, timeout=10).status == 200
