"""The programs of the images that are no part of the Python distribution, without containers."""

import doctest
import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st


def load(name: str) -> ModuleType:
    """Import a program of docker/ by its path."""
    spec = importlib.util.spec_from_file_location(f"docker_{Path(name).stem}", ROOT / "docker" / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attempt, install, clone, scratch = (
    load(name) for name in ("extra/attempt.py", "extra/install.py", "setup/clone.py", "scratch.py")
)


@pytest.mark.parametrize("module", [attempt, install])
def test_examples_in_docstrings(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VERSIONS = st.sampled_from(
    ["", ">=2", " == 1.0.*", "[extra]", "[a,b]~=3", " @ https://example.org/x.whl", " ; 1", "!=0"]
)
OTHER_LINES = st.sampled_from(["", "# note", "--pre", "-r other.txt", "  ", "https://example.org/y.whl"])


@given(st.lists(st.one_of(st.tuples(NAMES, VERSIONS), OTHER_LINES)))
def test_names_are_read_from_requirements(lines: list[tuple[str, str] | str]) -> None:
    text = "\n".join(line if isinstance(line, str) else "".join(line) for line in lines)
    assert attempt.requested(text) == [line[0] for line in lines if not isinstance(line, str)]


@pytest.mark.parametrize(
    ("name", "modules"),
    [("PyYAML", ["yaml"]), ("scikit-learn", ["sklearn"]), ("python-dateutil", ["dateutil"]), ("none-such", [])],
)
def test_modules_of_a_distribution(name: str, modules: list[str]) -> None:
    assert attempt.modules(name) == modules


@pytest.mark.parametrize(
    ("package", "content", "reason"),
    [
        ("raises", "raise OSError('libsomething.so.1: cannot open')", r"OSError: libsomething.*extra-debian\.txt"),
        ("leaves", "import sys; sys.exit('no graphics card')", r"SystemExit: no graphics card; leave it out"),
        ("crashes", "import os; os.kill(os.getpid(), 11)", r"Python ends with status -11; leave it out"),
    ],
)
def test_a_package_that_can_not_be_imported_is_said_in_one_line(
    tmp_path: Path, package: str, content: str, reason: str
) -> None:
    (tmp_path / f"{package}.py").write_text(content)
    (tmp_path / f"{package}-1.dist-info").mkdir()
    (tmp_path / f"{package}-1.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (tmp_path / f"{package}-1.dist-info/RECORD").write_text(f"{package}.py,,\n")
    (tmp_path / "requirements.txt").write_text(f"click\n{package}>=1\n")
    done = subprocess.run(
        [sys.executable, ROOT / "docker/extra/attempt.py", tmp_path / "requirements.txt"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match(rf"own packages: {package} is installed, but `import {package}` fails: {reason}", line), line


def test_a_cluster_belongs_to_the_clone_that_made_it(tmp_path: Path) -> None:
    def mounts(path: str) -> str:
        return f"40 30 0:1 / / rw - overlay overlay rw\n41 40 8:1 {path}/docker /clone/docker ro - ext4 /dev/sda rw\n"

    kept = tmp_path / "clone"
    assert clone.refuse("40 30 0:1 / / rw - overlay overlay rw\n", kept) == []
    assert not kept.exists()
    for _ in range(2):
        assert clone.refuse(mounts(r"/home/my\040own/one"), kept) == []
    (line,) = clone.refuse(mounts("/home/two"), kept)
    assert "belongs to the clone in /home/my own/one: write another COMPOSE_PROJECT_NAME into .env" in line
    assert kept.read_text() == "/home/my own/one"


def test_files_that_nobody_has_open_or_wrote_to_lately_are_reaped(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    old, new, held = (tmp_path / name for name in ("folder/old", "new", "held"))
    for path in (old, new, held):
        path.write_bytes(b"x" * 8192)
    for path in (old, held):
        os.utime(path, (0, 0))
    taken = scratch.taken(tmp_path)
    assert taken >= 3 * 8192
    with held.open("rb"):
        assert scratch.reap(tmp_path, time.time()) == pytest.approx(taken / 3)
    assert not old.exists()
    assert new.exists()
    assert held.exists()
    scratch.empty(tmp_path)
    assert list(tmp_path.iterdir()) == []


def check_health(setting: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the health check as the image does."""
    return subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "docker/healthcheck.py"],
        env=os.environ | setting, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "status"),
    [("HTTP/1.1 200 OK", 0), ("HTTP/1.0 503 Service Unavailable", 1), ("SSH-2.0-OpenSSH", 1), ("", 1)],
)
def test_a_process_is_healthy_when_it_says_so(answer: str, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection = server.accept()[0]
            with connection:
                assert connection.recv(1000).startswith(b"GET /health HTTP/1.0\r\n")
                connection.sendall(f"{answer}\r\n\r\n".encode() if answer else b"")

        port = server.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        done = check_health({"HEALTH_PORT": str(port)})
        thread.join()
    assert done.returncode == status
    assert done.stderr == (f"port {port}: it answers {answer!r}\n" if status else "")


@pytest.mark.parametrize("where", ["port", "folder"])
@pytest.mark.parametrize(("program", "status"), [("while True: pass", 0), ("import time; time.sleep(60)", 1)])
def test_a_process_that_does_not_answer_is_healthy_while_it_computes(
    tmp_path: Path, where: str, program: str, status: int
) -> None:
    if where == "port":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        setting, name = {"HEALTH_PORT": str(port)}, f"port {port}"
        listen = f"s = socket.create_server(('127.0.0.1', {port}))"
    else:
        name = str(tmp_path / "http")
        setting = {"HEALTH_SOCKET": name}
        listen = f"s = socket.socket(socket.AF_UNIX); s.bind({name!r}); s.listen()"
    words = [sys.executable, "-c", f"import socket\n{listen}\nprint('there', flush=True)\n{program}"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "there\n"
        done = check_health(setting)
        assert done.returncode == status, done.stderr
        assert (done.stdout + done.stderr).startswith(f"{name}: {'no answer' if status else 'busy'}")
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(("mebibytes", "left", "watched"), [(512, 448, False), (1023, 959, False), (1024, 880, True)])
def test_small_workers_have_no_nanny(mebibytes: int, left: int, *, watched: bool) -> None:
    ports = {"WORKER_PORT": "8800", "WORKER_NANNY_PORT": "8900", "WORKER_HTTP_PORT": "9000"}
    words = load("worker.py").arguments({"WORKER_NAME": "pi", **ports}, mebibytes * 2**20)
    assert f"--memory-limit={left * 2**20}" in words
    assert ("--nanny-port=8900" in words) == any("--preload-nanny" in word for word in words) == watched
    assert ("--no-nanny" in words) != watched


def test_a_worker_starts_when_its_scheduler_is_there(tmp_path: Path) -> None:
    worker = load("worker.py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    waiting = threading.Thread(target=worker.wait_for_scheduler, args=(f"tcp://127.0.0.1:{port}",))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path)
    try:
        waiting.join(120)
        assert not waiting.is_alive()
    finally:
        scheduler.terminate()
        scheduler.wait(60)
