"""People on one cluster: what each has, what of it others can use, and how it is taken back."""

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_project import USER, Project, wait_for
from containers import PROJECT

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

PEOPLE = ("teacher", "group-1")
#: To be refused everywhere takes 15 s; a machine that has much else to do may take longer.
PATIENCE = 300
#: Computes when it is told to, by a line on its standard input, and so long as its client is let in; then tries again.
CLIENT = """
import os, socket, ssl, sys, time
from distributed import Client

def lets_in(host, port):
    context = ssl.create_default_context(cafile="/bundle/ca.crt")
    context.check_hostname = False
    context.load_cert_chain("/bundle/tls.crt", "/bundle/tls.key")
    with socket.create_connection((host, port), 10) as raw, context.wrap_socket(raw) as connection:
        connection.settimeout(30)
        try:
            return bool(connection.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False

def places():
    return [lets_in(*place) for place in (("scheduler", 8786), ("worker", 8800), ("worker", 8900))]

client = Client(timeout="5 s")
print("there", client.submit(sum, [1, 2]).result(), *places(), flush=True)
if os.environ["STAYS"]:
    sys.stdin.readline()
    print("stayed", client.submit(sum, [3, 4]).result(), *places(), flush=True)
else:
    end = time.monotonic() + 300
    while client.status == "running" and time.monotonic() < end:
        time.sleep(0.1)
    print("cut", *places(), flush=True)
    os._exit(0)
"""
#: Reads keys of others, and leaves a present to them.
GIVES = """
from distributed import Client

def key():
    return open("/run/tls/tls.key").readline().strip("-").split()[0]

class Gift:
    def __reduce__(self):
        return exec, ("import os; os.environ['GIFT'] = 'of the teacher'",)

client = Client()
print(*client.run(key).values(), client.run_on_scheduler(key))
client.publish_dataset(Gift(), name="gift", override=True)
"""
TAKES = """
import os
from distributed import Client
client = Client()
client.get_dataset("gift")
print(os.environ["GIFT"])
client.unpublish_dataset("gift")
"""
#: A job that goes on until it is cancelled.
LONG = """
import time
from distributed import Client
client = Client()
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def room(project: Project) -> Iterator[Project]:
    """The cluster with people, who are let in while it runs."""
    before = {service: [each["Id"] for each in project.inspect(service)] for service in ("scheduler", "worker", "jobs")}
    project.write_settings(CLUSTER_PEOPLE=" ".join(PEOPLE))
    project.compose("up", "--detach", "--no-build")
    yield project
    project.write_settings(CLUSTER_PEOPLE="")
    project.compose("up", "--detach", "--no-build")
    assert before == {service: [each["Id"] for each in project.inspect(service)] for service in before}
    project.wait_until_healthy()


@pytest.fixture(scope="module")
def bundles(room: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each has."""
    found = {}
    for name in PEOPLE:
        found[name] = room.bundle(tmp_path_factory.mktemp(name), name)
        found[name].chmod(0o755)
        for path in (found[name], *found[name].iterdir()):
            if os.getuid() == 0:
                os.chown(path, USER, USER)
    return found


@pytest.fixture(scope="module")
def passwords(room: Project) -> dict[str, str]:
    return {name: room.password(name) for name in PEOPLE}


def in_container(
    project: Project, bundle: Path, *words: str, program: str = "python3", **environment: str
) -> subprocess.Popen[str]:
    """Start a program of somebody's, whose Python is the cluster's."""
    tls = {
        f"DASK_DISTRIBUTED__COMM__TLS__CLIENT__{key}": f"/bundle/tls.{end}"
        for key, end in (("CERT", "crt"), ("KEY", "key"))
    }
    given = [word for name, value in (tls | environment).items() for word in ("--env", f"{name}={value}")]
    options = ["--rm", "--no-deps", "-T", "--entrypoint", program, "--volume", f"{bundle}:/bundle:ro"]
    command = project.command("run", *options, *given, "workload", *words)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=PROJECT, env=project.environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def jobs(project: Project, bundle: Path, *words: str) -> str:
    """Ask for something with somebody's certificate, through the gateway."""
    process = in_container(project, bundle, *words, program="tritoncluster")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err + project.log("jobs", "gateway")
    return out


def api(project: Project, bundle: Path) -> int:
    """Give the status with which the gateway answers a certificate; 0 when it does not."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(bundle / "tls.crt", bundle / "tls.key")
    try:
        with urllib.request.urlopen(f"{project.dashboard}/api/jobs", context=context, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def websocket(project: Project, user: str, password: str) -> ssl.SSLSocket:
    """Open one, as a page of the dashboard does."""
    place = ("localhost", int(project.settings["DASHBOARD_PORT"]))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection(place, 30))
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    lines = ["GET /eventstream HTTP/1.1", f"Host: localhost:{place[1]}", f"Origin: https://localhost:{place[1]}"]
    lines += [f"Authorization: Basic {pair}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    assert connection.recv(2**16).startswith(b"HTTP/1.1 101")
    return connection


def is_over(connection: ssl.SSLSocket) -> bool:
    """Tell whether a connection has been ended at its other side."""
    connection.settimeout(0.5)
    try:
        return not connection.recv(2**16)
    except TimeoutError:
        return False
    except (ssl.SSLError, ConnectionError):
        return True


def log(project: Project, pattern: str) -> list[str]:
    """Give what the scheduler's log has of it."""
    return re.findall(pattern, project.compose("logs", "--no-color", "scheduler").stdout)


def test_each_has_a_password_of_their_own(room: Project, passwords: dict[str, str]) -> None:
    assert len({*passwords.values(), room.password()}) == 3
    for name in PEOPLE:
        assert room.get("/status", passwords[name], name)[0] == 200
        for other in {*PEOPLE, "client"} - {name}:
            assert room.get("/status", passwords[name], other)[0] == 401
    assert room.get("/status")[0] == 200
    done = room.compose("run", "--rm", "-T", "setup", "password", "ben", check=False)
    assert "setup: ben is not let in, but client, group-1, teacher: add to CLUSTER_PEOPLE" in done.stderr


def test_who_can_not_be_named_is_one_line_and_changes_nothing(room: Project, passwords: dict[str, str]) -> None:
    room.write_settings(CLUSTER_PEOPLE="anna Ben")
    done = room.compose("run", "--rm", "-T", "people", check=False)
    room.write_settings(CLUSTER_PEOPLE=" ".join(PEOPLE))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("setup: ")]
    assert line.startswith("setup: CLUSTER_PEOPLE=anna Ben in .env: Ben is no name: write small letters")
    assert room.get("/status", passwords["teacher"], "teacher")[0] == 200


def test_a_job_has_the_name_of_who_left_it_and_of_who_cancelled_it(
    room: Project, bundles: dict[str, Path], passwords: dict[str, str]
) -> None:
    (room.scripts / "long.py").write_text(LONG)
    job = jobs(room, bundles["teacher"], "submit", "--detach", "scripts/long.py").strip()
    line = rf"client at tls://\S+: client Client-job-{job}-teacher-\S+ connected"
    wait_for(lambda: log(room, line), PATIENCE, room.log)
    request = urllib.request.Request(f"{room.dashboard}/jobs/{job}/cancel", b"", {"Origin": room.dashboard})
    pair = f"group-1:{passwords['group-1']}".encode()
    request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
    request.add_header("X-Client-Name", "teacher")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    urllib.request.urlopen(request, context=context, timeout=30).close()
    described = json.loads(jobs(room, bundles["teacher"], "jobs", "show", job, "--json"))
    assert (described["who"], described["reason"]) == ("teacher", "cancelled by group-1")


def test_a_client_s_certificate_makes_no_worker(room: Project) -> None:
    before = set(room.workers())
    words = ["--no-nanny", "--no-dashboard", "--name=foreign", "--local-directory=/tmp", "--death-timeout=20"]
    options = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "dask"]
    done = room.compose(*options, "workload", "worker", "tls://scheduler:8786", *words, check=False)
    assert "a worker needs one of a host's" in done.stderr
    assert log(room, r"client at tls://\S+: refused the worker foreign: its certificate is a client's")
    assert set(room.workers()) == before
    assert log(room, r"node at tls://\S+: worker \S+ connected")


def test_what_a_bundle_is_worth(room: Project, bundles: dict[str, Path]) -> None:
    given = in_container(room, bundles["teacher"], "-c", GIVES)
    out, err = given.communicate(timeout=PATIENCE)
    assert out == "BEGIN BEGIN BEGIN\n", err
    taken = in_container(room, bundles["group-1"], "-c", TAKES)
    out, err = taken.communicate(timeout=PATIENCE)
    assert out == "of the teacher\n", err


def test_who_is_no_longer_named_is_cut_off_and_others_go_on(
    room: Project, bundles: dict[str, Path], passwords: dict[str, str]
) -> None:
    with (
        in_container(room, bundles["teacher"], "-c", CLIENT, STAYS="1") as stays,
        in_container(room, bundles["group-1"], "-c", CLIENT, STAYS="") as leaves,
    ):
        for process in (stays, leaves):
            assert process.stdout
            assert process.stdout.readline() == "there 3 True True True\n", room.log()
        with websocket(room, "group-1", passwords["group-1"]) as watching:
            assert api(room, bundles["group-1"]) == 200
            assert log(room, r"group-1 at tls://\S+: client Client-\S+ connected")
            room.write_settings(CLUSTER_PEOPLE="teacher")
            room.compose("run", "--rm", "-T", "people")
            assert room.get("/status", passwords["group-1"], "group-1")[0] == 401
            # By connections that stand, and by new ones: scheduler, worker and nanny.
            assert leaves.communicate(timeout=PATIENCE)[0] == "cut False False False\n"
            wait_for(lambda: is_over(watching), PATIENCE, room.log)
            wait_for(lambda: api(room, bundles["group-1"]) == 400, PATIENCE, room.log)
        assert log(room, r"group-1 at tls://\S+: client Client-\S+ disconnected after \d+ s")
        assert stays.communicate("\n", timeout=PATIENCE)[0] == "stayed 7 True True True\n"
    assert api(room, bundles["teacher"]) == 200
    assert room.get("/status", passwords["teacher"], "teacher")[0] == 200
