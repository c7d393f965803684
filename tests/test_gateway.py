"""The gateway alone, in front of a scheduler and a worker without TLS of their own."""

import base64
import pathlib
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message

import pytest
from containers import ARCHITECTURES, run

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

NODE, GATEWAY = "tritoncluster/node:local", "tritoncluster/gateway:local"
HARDENED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
PREFIX = "tritoncluster-test-gateway"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with a certificate, its key and a password file, for user dask with password secret."""
    folder = tmp_path_factory.mktemp("secrets")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = folder / "gateway.key", folder / "gateway.crt"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", certificate)
    hashed = run("openssl", "passwd", "-6", "secret").stdout.strip()
    (folder / "htpasswd").write_text(f"dask:{hashed}\n")
    # Of an authority, by which it knows programs.
    (folder / "ca.crt").write_bytes(certificate.read_bytes())
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    return folder


def start(name: str, *arguments: str) -> str:
    """Start a container on the test's network and return its name."""
    run(
        "docker",
        "run",
        "--detach",
        f"--name={PREFIX}-{name}",
        f"--network={PREFIX}",
        f"--network-alias={name}",
        *arguments,
    )
    return f"{PREFIX}-{name}"


def wait_for_health(container: str) -> None:
    """Wait until the container's health check passes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if run("docker", "inspect", "--format={{.State.Health.Status}}", container).stdout.strip() == "healthy":
            return
        time.sleep(0.5)
    pytest.fail(f"{container} is not healthy:\n{run('docker', 'logs', container)}")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder for the scheduler's socket."""
    folder = tmp_path_factory.mktemp("http")
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def cluster(images: dict[str, str], http: pathlib.Path) -> Iterator[None]:
    """Start a scheduler and a worker on a network of their own."""
    run("docker", "network", "create", PREFIX)
    try:
        preload = ["--preload=tritoncluster.dashboard_socket", "--preload=tritoncluster.metrics"]
        place = ["--env=SCHEDULER_HTTP_SOCKET=/run/scheduler/http", "--env=HEALTH_SOCKET=/run/scheduler/http"]
        shared = f"--volume={http}:/run/scheduler"
        wait_for_health(start("scheduler", *place, shared, NODE, "dask", "scheduler", *preload))
        worker = ["dask", "worker", "scheduler:8786", "--dashboard-address", ":9000", "--nthreads", "1", "--name=pi"]
        worker += ["--preload=tritoncluster.metrics"]
        wait_for_health(start("worker", "--env=HEALTH_PORT=9000", "--tmpfs=/work", NODE, *worker))
        yield
    finally:
        containers = run("docker", "ps", "--all", "--quiet", f"--filter=network={PREFIX}").stdout.split()
        run("docker", "rm", "--force", "--volumes", *containers)
        run("docker", "network", "rm", PREFIX)


class Gateway:
    """A running gateway, and how a browser sees it."""

    def __init__(self, container: str, certificate: pathlib.Path) -> None:
        self.container = container
        self.address = run("docker", "port", container, "8787").stdout.split()[0].replace("127.0.0.1", "localhost")
        self.context = ssl.create_default_context(cafile=str(certificate))

    def get(self, path: str, password: str | None = "secret", **headers: str) -> tuple[int, str]:
        """Return status and body of one request."""
        status, body, _ = self.ask("GET", path, password, **headers)
        return status, body

    def ask(
        self, method: str, path: str, password: str | None = "secret", **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """Return status, body and headers of one request; the headers' names in lower case."""
        request = urllib.request.Request(f"https://{self.address}{path}", method=method)
        if password is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(f"dask:{password}".encode()).decode())
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace"), lowered(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace"), lowered(error.headers)


def lowered(headers: Message) -> dict[str, str]:
    """Return headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def gateway(request: pytest.FixtureRequest, cluster: None, secrets: pathlib.Path, http: pathlib.Path) -> Gateway:
    """Start the gateway of one platform."""
    options = [f"--platform=linux/{request.param}", "--publish=127.0.0.1::8787", f"--volume={secrets}:/run/secrets:ro"]
    options += [f"--volume={http}:/run/scheduler:ro"]
    container = start(f"gateway-{request.param}", *HARDENED, *options, GATEWAY)
    wait_for_health(container)
    return Gateway(container, secrets / "gateway.crt")


@pytest.mark.parametrize(
    "path", ["/status", "/metrics", "/workers", "/workers/pi/metrics", "/json/counts.json", "/health"]
)
def test_nothing_without_the_password(gateway: Gateway, path: str) -> None:
    assert gateway.get(path, password=None)[0] == 401
    assert gateway.get(path, password="wrong")[0] == 401


@pytest.mark.parametrize(
    "path", ["/status", "/workers", "/tasks", "/system", "/profile", "/graph", "/groups", "/info/main/workers.html"]
)
def test_pages_of_the_scheduler(gateway: Gateway, path: str) -> None:
    status, body = gateway.get(path)
    assert status == 200, body
    assert "<html" in body


def websocket_status(gateway: Gateway, origin: str) -> int:
    """Ask for a websocket, and return the status of the answer."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": key,
        "Sec_WebSocket_Version": "13",
    }
    return gateway.get("/eventstream", Origin=origin, **handshake)[0]


def test_websockets_pass_for_pages_of_the_same_address_alone(gateway: Gateway) -> None:
    assert websocket_status(gateway, "https://evil.example") == 403
    assert websocket_status(gateway, f"http://{gateway.address}") == 403
    assert websocket_status(gateway, f"https://{gateway.address}") == 101


def test_a_scheduler_that_is_away_is_said_in_one_line(gateway: Gateway) -> None:
    run("docker", "stop", f"{PREFIX}-scheduler")
    try:
        status, body = gateway.get("/status")
        assert status == 502, body
        assert "The scheduler does not answer" in body
    finally:
        run("docker", "start", f"{PREFIX}-scheduler")
        # It ends with its scheduler, sooner or later, and nothing else here starts it again.
        run("docker", "restart", "--time=1", f"{PREFIX}-worker")
    deadline = time.monotonic() + 60
    while gateway.get("/status")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.parametrize("path", ["/status", "/nothing", "/workers/pi/metrics"])
@pytest.mark.parametrize("password", ["secret", None])
def test_browsers_are_told_to_be_careful(gateway: Gateway, path: str, password: str | None) -> None:
    _status, _body, headers = gateway.ask("GET", path, password)
    assert headers["strict-transport-security"] == "max-age=86400"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/status", "/workers/pi/metrics", "/json/counts.json", "/eventstream"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nobody_has_anything_to_send(gateway: Gateway, method: str, path: str) -> None:
    assert gateway.ask(method, path)[0] in (403, 405)


def test_metrics_of_a_worker_and_of_nothing_else(gateway: Gateway) -> None:
    # The worker may just have been started.
    deadline = time.monotonic() + 60
    while gateway.get("/workers/pi/metrics")[0] == 404 and time.monotonic() < deadline:
        time.sleep(1)
    status, body, headers = gateway.ask("GET", "/workers/pi/metrics", Cookie="a=b")
    assert status == 200, body
    assert "dask_worker_tasks" in body
    assert headers["content-type"].startswith("text/plain")
    # Names and addresses of machines are no names of workers.
    for other in ("worker", "127.0.0.1", "localhost", f"{PREFIX}-scheduler"):
        status, body, headers = gateway.ask("GET", f"/workers/{other}/metrics")
        assert (status, headers["content-type"].partition(";")[0]) == (404, "text/plain"), body


def test_guesses_wait_and_the_password_does_not(gateway: Gateway) -> None:
    with ThreadPoolExecutor(40) as threads:
        guesses = [threads.submit(gateway.get, "/status", f"guess-{number}") for number in range(40)]
        deadline = time.monotonic() + 15
        while sum(guess.done() for guess in guesses) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        # The right one comes in between; those that were asked before it still wait.
        assert gateway.get("/health")[0] == 200
        assert sum(guess.done() for guess in guesses) < 40
        assert {guess.result()[0] for guess in guesses} == {401}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_tls_and_plain_http(gateway: Gateway) -> None:
    with pytest.raises(urllib.error.HTTPError, match="301"):
        urllib.request.build_opener(NoRedirect).open(f"http://{gateway.address}/status")
    gateway.context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with pytest.raises(urllib.error.URLError):
            gateway.get("/status")
    finally:
        gateway.context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED


@pytest.mark.parametrize(
    ("ciphers", "good"),
    [("ECDHE+AESGCM", True), ("ECDHE+CHACHA20", True), ("ECDHE+AES:!AESGCM:!AESCCM", False), ("kRSA", False)],
)
def test_of_tls_1_2_what_is_still_good(gateway: Gateway, ciphers: str, *, good: bool) -> None:
    host, port = gateway.address.split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with socket.create_connection((host, int(port)), 10) as raw:
        if good:
            with context.wrap_socket(raw) as connection:
                assert connection.version() == "TLSv1.2"
        else:
            with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                context.wrap_socket(raw)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "user 1000 can not read /run/secrets/gateway.crt"),
        (["--env=SCHEDULER_HTTP=x; evil"], "SCHEDULER_HTTP=x; evil has a character"),
    ],
)
def test_bad_settings_end_in_one_line(
    images: dict[str, str], secrets: pathlib.Path, options: list[str], message: str
) -> None:
    mount = [f"--volume={secrets}:/run/secrets:ro"] if options else []
    done = run("docker", "run", "--rm", *HARDENED, *mount, *options, GATEWAY, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gateway: {message}")
    assert done.stderr.count("\n") == 1
