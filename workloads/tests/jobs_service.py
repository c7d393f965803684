"""A jobs service as a process, and a gateway before it with real certificates of both sides."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from command import tritoncluster
from remote import remote

from tritoncluster.service.model import MARK

PATIENCE = 300

#: Says that it began, waits for a file beside it, and says that it ends.
STEP = """
import pathlib, sys, time
name = sys.argv[1]
print("began", name, flush=True)
with open(sys.argv[2], "a") as file:
    file.write(f"began {name}\\n")
while not pathlib.Path(sys.argv[3]).exists():
    time.sleep(0.05)
with open(sys.argv[2], "a") as file:
    file.write(f"ended {name}\\n")
"""


def certificates(folder: Path, *clients: str) -> None:
    """Make an authority, a pair of each client, and the gateway's, which signs itself."""

    def make(name: str, *words: str) -> None:
        (folder / name).mkdir(parents=True)
        files = ["-keyout", str(folder / name / "tls.key"), "-out", str(folder / name / "tls.crt")]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", f"/CN=tritoncluster {name}"]
        subprocess.run([*command, *files, *words], check=True, capture_output=True)

    make("authority")
    make("gateway", "-addext", "subjectAltName=DNS:gateway")
    authority = folder / "authority"
    for name in clients:
        signer = ["-CA", str(authority / "tls.crt"), "-CAkey", str(authority / "tls.key")]
        make(name, *signer, "-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=CA:FALSE")
        (folder / name / "gateway.crt").write_bytes((folder / "gateway/tls.crt").read_bytes())


class Gateway:
    """Does what the real one does for programs: asks for a certificate, and says whose it is."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._target = str(target)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "gateway/tls.crt", folder / "gateway/tls.key")
        self._context.load_verify_locations(folder / "authority/tls.crt")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as client:
            subject = dict(pair for (pair,) in (client.getpeercert() or {})["subject"])
            # One after the other: a connection with TLS is not for two threads at a time.
            head, _, body = receive(client, b"", lambda data: b"\r\n\r\n" in data).partition(b"\r\n\r\n")
            length = int((re.search(rb"\r\ncontent-length: (\d+)", head.lower()) or [0, 0])[1])
            body = receive(client, body, lambda data: len(data) >= length)
            line, _, rest = head.partition(b"\r\n")
            words = f"\r\nX-Client-Name: {subject['commonName']}\r\nConnection: close\r\n".encode()
            with socket.socket(socket.AF_UNIX) as service:
                try:
                    service.connect(self._target)
                except OSError:
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                    return
                with suppress(BrokenPipeError, ConnectionResetError):
                    service.sendall(line + words + rest + b"\r\n\r\n" + body)
                copy(service, client)


def receive(connection: socket.socket, data: bytes, enough: Callable[[bytes], bool]) -> bytes:
    """Read until there is enough, or no more."""
    while not enough(data) and (block := connection.recv(65536)):
        data += block
    return data


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, and its end."""
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Service:
    """The service of a folder, and commands that use it."""

    def __init__(self, folder: Path, scheduler: str = "tcp://127.0.0.1:9", **settings: object) -> None:
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir(parents=True)
        certificates(folder / "tls", "anna", "ben")
        self.socket = folder / "socket"
        self.gateway = Gateway(folder / "tls", self.socket)
        self.settings = {f"DASK_TRITONCLUSTER__JOBS__{name.upper()}": str(value) for name, value in settings.items()}
        self.scheduler = scheduler
        self.program = ["-m", "tritoncluster.service"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, *self.program, str(self.store), str(self.socket)]
        environment = os.environ | self.settings | {"DASK_SCHEDULER_ADDRESS": self.scheduler}
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_for(lambda: self.socket.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def kill(self) -> None:
        """End it without a chance to do anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Tell it to end, and give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def command(self, *words: str, who: str = "anna", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as a user with a bundle does."""
        return tritoncluster(folder or self.folder, *words, **self.environment(who))

    def environment(self, who: str = "anna") -> dict[str, str]:
        bundle = self.folder / "tls" / who
        return {
            "DASK_TRITONCLUSTER__GATEWAY": self.gateway.address,
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": str(bundle / "tls.crt"),
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": str(bundle / "tls.key"),
        }

    def submit(self, script: str, *options: str, arguments: tuple[str, ...] = (), who: str = "anna") -> str:
        """Leave a script to it; give the ID."""
        path = self.folder / "script.py"
        path.write_text(script)
        done = self.command("submit", "--detach", *options, str(path), *arguments, who=who)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"[a-z2-9]{5}\n", done.stdout)
        return done.stdout.strip()

    def processes(self) -> list[psutil.Process]:
        """List what runs for any of its jobs."""
        name = self.store / "name"
        found = []
        for process in psutil.process_iter() if name.exists() else []:
            with suppress(psutil.Error):
                if process.environ().get(MARK, "").startswith(name.read_text()):
                    found.append(process)
        return found

    def close(self) -> None:
        self.gateway.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@contextmanager
def service(folder: Path, scheduler: str = "tcp://127.0.0.1:9", **settings: object) -> Iterator[Service]:
    """Start a service, and end it with the context."""
    found = Service(folder, scheduler, **settings)
    try:
        found.start()
        yield found
    finally:
        found.close()


def describe(jobs: Service, job: str) -> dict[str, object]:
    return json.loads(jobs.command("jobs", "show", job, "--json").stdout)


def ask(jobs: Service, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Ask the service itself, as the gateway does."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(jobs.socket))
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Steps:
    """Jobs that run until they are let go, and write down when they did."""

    def __init__(self, jobs: Service, folder: Path) -> None:
        self.jobs, self.record, self.go = jobs, folder / "record", folder / "go"
        self.record.touch()

    def submit(self, name: str, *options: str) -> str:
        return self.jobs.submit(STEP, *options, arguments=(name, str(self.record), str(self.go)))

    def written(self) -> list[str]:
        return self.record.read_text().splitlines()

    def wait_until(self, *lines: str) -> None:
        wait_for(lambda: set(lines) <= set(self.written()))

    def let_go(self) -> None:
        self.go.touch()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with remote(tmp_path_factory.mktemp("cluster"), 1) as cluster:
        yield cluster.address


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Iterator[Service]:
    settings = {"max_log": "20k", "memory": "600m", "max_upload": "1m"}
    with service(tmp_path_factory.mktemp("service") / "shared", scheduler, **settings) as found:
        yield found
        # Jobs that no test waited for come to their end.
        wait_for(lambda: not found.processes())


@pytest.fixture
def alone(tmp_path: Path, scheduler: str) -> Iterator[Service]:
    """A service that runs one job at a time."""
    with service(tmp_path / "alone", scheduler, at_once=1) as found:
        yield found
