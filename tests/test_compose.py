"""`docker compose up`, from nothing, and what a user does next."""

import json
import os
import re

import pytest
from compose_project import USER, Project, wait_for
from containers import PROJECT

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]


def test_up_runs_the_demonstration_once_and_the_cluster_stays(project: Project) -> None:
    def state() -> dict:
        (demonstration,) = project.inspect("demonstration")
        return demonstration["State"]

    wait_for(lambda: state()["Status"] == "exited", 600, project.log)
    assert state()["ExitCode"] == 0, project.log("demonstration")
    (folder,) = project.results.iterdir()
    for path in (folder / "result.json", folder / "report.html"):
        assert path.stat().st_uid == (os.getuid() or USER)
    runs = json.loads((folder / "result.json").read_text())
    assert "asian-option" in json.dumps(runs)
    log = project.log("demonstration")
    for job in ("forest", "grid-search", "asian-option"):
        assert f"{job}: " in log
    assert project.is_healthy(scheduler=1, gateway=1, jobs=1, worker=2)


def test_up_again_does_not_run_the_demonstration_again(project: Project) -> None:
    def containers() -> list[tuple[str, str]]:
        services = ("scheduler", "worker", "gateway", "jobs")
        return [(each["Id"], each["State"]["StartedAt"]) for service in services for each in project.inspect(service)]

    before = containers()
    project.compose("up", "--detach", "--wait")
    wait_for(lambda: project.inspect("demonstration")[0]["State"]["Status"] == "exited", 60, project.log)
    assert project.inspect("demonstration")[0]["State"]["ExitCode"] == 0
    assert len(list(project.results.iterdir())) == 1
    assert "ran when this cluster first started" in project.log("demonstration")
    assert containers() == before


def test_the_log_names_the_dashboard_where_it_is(project: Project) -> None:
    log = project.log("scheduler", tail=1000)
    assert f"dashboard at: {project.dashboard}/status" in " ".join(log.split())
    assert "http://" not in log


def test_placement_is_on_in_the_image_s_version_of_dask(project: Project) -> None:
    (project.scripts / "placement.py").write_text(
        "from distributed import Client\n"
        "print(Client().run_on_scheduler(lambda dask_scheduler: type(dask_scheduler).__name__))\n"
    )
    done = project.workload("submit", "placement.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "SpeedAwareScheduler\n"


def test_workers_take_what_their_containers_may_use(project: Project) -> None:
    workers = project.workers()
    assert workers.keys() == set(project.names("worker"))
    for threads, memory in workers.values():
        assert threads == 1
        assert 0.8 * 2**30 < memory < 2**30 - 75 * 2**20


def test_the_doctor_finds_nothing(project: Project) -> None:
    done = project.workload("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All is well." in done.stdout


def test_a_script_from_the_mounted_folder(project: Project) -> None:
    (project.scripts / "my.py").write_text(
        "import sys\n"
        "from distributed import Client\n"
        "client = Client()\n"
        "print(sum(client.gather(client.map(lambda x: x * x, range(int(sys.argv[1]))))))\n"
        "open('written', 'w').close()\n"
    )
    done = project.workload("submit", "my.py", "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "285\n"
    assert (project.scripts / "written").stat().st_uid == (os.getuid() or USER)


def test_the_example_runs(project: Project) -> None:
    mounted = f"{PROJECT}/examples:/work/scripts:ro"
    done = project.compose("run", "--rm", "--no-deps", "-T", "--volume", mounted, "workload", "submit", "pi.py", "4")
    assert done.stdout.startswith("3.14")


def test_setup_changes_nothing_when_all_is_there(project: Project) -> None:
    def secrets() -> str:
        script = "sha256sum /secrets/*/* 2>/dev/null"
        return project.compose("run", "--rm", "-T", "--entrypoint", "sh", "setup", "-c", script, check=False).stdout

    before = secrets()
    assert "/secrets/node/tls.crt" in before
    assert "renewed" not in project.compose("run", "--rm", "-T", "setup", "prepare").stdout
    assert secrets() == before


def test_every_setting_is_listed_with_its_default() -> None:
    used: dict[str, set[str]] = {}
    for file in [PROJECT / "compose.yaml", *(PROJECT / "docker").glob("*.compose.yaml")]:
        # The default may be another setting's.
        for name, default in re.findall(r"\$\{(\w+):-(?:\$\{\w+:-)?([^}]*)\}", file.read_text()):
            used.setdefault(name, set()).add(default)
        assert not re.findall(r"\$\{\w+\}|\$\w", file.read_text()), file
    lines = (PROJECT / ".env.example").read_text().splitlines()
    listed = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert used.keys() == listed.keys()
    for name, defaults in used.items():
        assert {default.replace("../", "./") for default in defaults} == {listed[name]}, name
