"""Bad settings, and certificates that are too old: one clear line each."""

import re
import socket
import subprocess
from collections.abc import Iterator

import pytest
from compose_project import Project, complaint

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def never_started(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of which nothing runs: networks and volumes are made once for all tests."""
    project = Project("input", tmp_path_factory.mktemp("input"))
    yield project
    project.down()


@pytest.fixture
def stopped(never_started: Project) -> Iterator[Project]:
    """The same with its own settings again after the test."""
    settings = dict(never_started.settings)
    yield never_started
    never_started.settings = settings
    never_started.write_settings()


def told(project: Project) -> list[str]:
    """Try to start, and give what the user sees last: Compose's own word, or that of the setup."""
    done = project.compose("up", "--detach", "--no-build", check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
    if 'service "setup" didn\'t complete successfully' in said[-1]:
        said = project.compose("logs", "--no-log-prefix", "setup").stdout.splitlines()
    # What there is no room for: services that started in spite of it.
    assert not [name for name in project.names("demonstration") if project.execute(name, "true")]
    return said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"UID": "me"}, r"setup: UID=me in \.env: write the number that `id` prints"),
        ({"UID": 4321, "GID": 4321}, r"setup: the results folder can't be written by UID=4321 GID=4321: .* chown"),
        ({"WORKER_MEMORY": "100m"}, r"setup: WORKER_MEMORY=100m in \.env: write 512m or more"),
        ({"WORKER_MAX_SPILL": "much"}, r"setup: WORKER_MAX_SPILL=much in \.env: write a size"),
        ({"WORKER_MAX_DISK": "-1g"}, r"setup: WORKER_MAX_DISK=-1g in \.env: write a size, as 2g, or 0 for no limit"),
        ({"JOBS_AT_ONCE": "0"}, r"setup: JOBS_AT_ONCE=0 in \.env: write a number of jobs, as 2"),
        ({"JOB_MEMORY": "10m"}, r"setup: JOB_MEMORY=10m in \.env: write 256m or more"),
        ({"JOBS_AT_ONCE": 9}, r"setup: JOBS_MEMORY=2g in \.env: 9 jobs of 896m and the service want 8320m;"),
        ({"JOBS_KEEP_DAYS": "ever"}, r"setup: JOBS_KEEP_DAYS=ever in \.env: write a number of days, as 30"),
        ({"JOBS_KEEP_SIZE": "0"}, r"setup: JOBS_KEEP_SIZE=0 in \.env: write a size, as 1g"),
        ({"NOTEBOOK_MEMORY": "100m"}, r"setup: NOTEBOOK_MEMORY=100m in \.env: write 512m or more"),
        ({"NOTEBOOK_IDLE_MINUTES": "0"}, r"setup: NOTEBOOK_IDLE_MINUTES=0 in \.env: write a number of minutes"),
        ({"PLACEMENT": "perhaps"}, r"setup: PLACEMENT=perhaps in \.env: write true or false"),
        ({"CERTIFICATE_DAYS": 9999}, r"setup: CERTIFICATE_DAYS=9999 in \.env: write a number from 3 to 825"),
        ({"DASHBOARD_NAMES": "a;b"}, r"setup: DASHBOARD_NAMES=a;b in \.env: write host names"),
    ],
)
def test_a_setting_that_setup_refuses(stopped: Project, settings: dict[str, object], message: str) -> None:
    stopped.write_settings(**settings)
    done = stopped.compose("run", "--rm", "-T", "setup", check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("setup: ")]
    assert len(said) == 1
    assert re.match(message, said[0]), said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"WORKER_MEMORY": "100m"}, r"setup: WORKER_MEMORY=100m in \.env: write 512m or more"),
        ({"WORKERS": "two"}, r"error while interpolating services\.worker\.deploy\.replicas: .*\"two\""),
        ({"WORKER_CPUS": "two"}, r"error decoding 'services\[worker\].*cpus': .*\"two\""),
        ({"WORKER_CPUS": 4096}, r"Error response from daemon: Range of CPUs is from 0\.01 to \d+"),
        ({"DASHBOARD_PORT": 99999}, r"Invalid hostPort: 99999"),
    ],
)
def test_a_wrong_setting(stopped: Project, settings: dict[str, object], message: str) -> None:
    stopped.write_settings(**settings)
    said = told(stopped)
    assert re.match(message, said[-1]), said


def test_a_missing_results_folder(stopped: Project) -> None:
    missing = stopped.folder / "missing"
    stopped.write_settings(RESULTS=missing)
    (line,) = told(stopped)
    assert line.endswith(f"bind source path does not exist: {missing}")
    assert not missing.exists()


def test_a_port_in_use(stopped: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        stopped.write_settings(DASHBOARD_PORT=port)
        # Where Compose gave up in the middle of replacing one, under its name of that moment, it can't go on.
        stopped.compose("rm", "--force", "--stop", "gateway")
        (line,) = told(stopped)
    assert re.search(rf"127\.0\.0\.1:{port}\b.*address already in use", line), line


def test_the_wrapper_says_on_one_line_what_compose_says_on_many(stopped: Project) -> None:
    environment = stopped.environment() | {"WORKER_MEMORY": "lots", "COMPOSE_PROJECT_NAME": stopped.name}
    done = subprocess.run(["scripts/up"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint(done, status=2).endswith("invalid size: 'lots'")


#: Makes the client's certificate as setup does, for a time that is over.
EXPIRE = """
set -e
cd /secrets/client
printf '[req]\\ndistinguished_name = name\\n[name]\\n' >/tmp/x.cnf
openssl req -x509 -config /tmp/x.cnf -newkey rsa:2048 -noenc -subj /CN=old -addext basicConstraints=CA:FALSE \\
    -addext extendedKeyUsage=clientAuth -CA /secrets/authority/ca.crt -CAkey /secrets/authority/ca.key \\
    -not_before 20200101000000Z -not_after 20200201000000Z -keyout /tmp/x.key -out tls.crt
rm tls.key; cp /tmp/x.key tls.key; chmod 600 tls.key; chown $UID:$GID tls.key
"""


def test_an_expired_certificate_is_said_in_one_line_and_renewed(project: Project) -> None:
    project.compose("run", "--rm", "-T", "--entrypoint", "sh", "setup", "-c", EXPIRE)
    line = complaint(project.workload("doctor"), status=2)
    assert "the client's certificate is /run/tls/tls.crt, which expired on Feb 1 00:00:00 2020 GMT" in line
    assert "renewed" in project.compose("run", "--rm", "-T", "setup", "prepare").stdout
    assert project.workload("doctor").returncode == 0


def test_a_certificate_is_renewed_while_a_third_of_its_time_is_left(project: Project) -> None:
    def prepare(days: int) -> str:
        return project.compose("run", "--rm", "-T", "--env", f"CERTIFICATE_DAYS={days}", "setup", "prepare").stdout

    # 397 days are more than a third of 825, and so are 825 of 397: nothing happens.
    assert "renewed" not in prepare(825)
    assert "renewed" not in prepare(397)
