"""Clones of the project on one machine: each its own cluster, of images that it builds itself."""

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_project import USER, Project
from containers import PROJECT, run

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]


def copy(folder: Path) -> Path:
    """Copy what a clone has of compose files and images."""
    ignore = shutil.ignore_patterns("__pycache__", "extra-*.txt")
    for name in ("docker", "scripts", "workloads", ".ci", "examples"):
        shutil.copytree(PROJECT / name, folder / name, ignore=ignore)
    for name in ("compose.yaml", "pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT / name, folder)
    (folder / "results").mkdir()
    if os.getuid() == 0:
        os.chown(folder / "results", USER, USER)
    return folder


def compose(clone: Path, *words: object, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    command = ["docker", "compose", *map(str, words)]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clone(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clones")
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)
    return copy(folder / "another")


@pytest.fixture
def registry() -> Iterator[tuple[str, list[object]]]:
    """A registry on this machine that notes who asks it for anything, and answers nobody."""
    asked: list[object] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def note() -> None:
            while True:
                try:
                    connection, peer = listening.accept()
                except OSError:
                    return
                asked.append(peer)
                connection.close()

        thread = threading.Thread(target=note)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_clone_in_another_folder_is_another_cluster(clone: Path) -> None:
    for folder in (PROJECT, clone):
        assert json.loads(compose(folder, "config", "--format", "json").stdout)["name"] == folder.name


def test_up_builds_what_is_not_there_says_what_has_changed_and_pulls_nothing(
    clone: Path, registry: tuple[str, list[object]]
) -> None:
    address, asked = registry
    name = f"tritoncluster-test-{os.getpid()}-clone"
    settings = {
        "COMPOSE_PROJECT_NAME": name,
        "NODE_IMAGE": f"{address}/node:local",
        "GATEWAY_IMAGE": f"{address}/gateway:local",
    }
    try:
        refused = compose(clone, "create", "--no-build", **settings)
        assert refused.returncode != 0
        done = compose(clone, "create", **settings)
        assert done.returncode == 0, done.stderr
        prepare = ["run", "--rm", "-T", "setup", "prepare"]
        assert "changed" not in compose(clone, *prepare, **settings).stdout
        first = run("docker", "inspect", "--format={{.Id}}", settings["NODE_IMAGE"]).stdout
        with (clone / "workloads/src/tritoncluster/__init__.py").open("a") as module:
            module.write("\nCHANGED = True\n")
        assert "setup: the code has changed since" in compose(clone, *prepare, **settings).stdout
        # Nothing is built again, and so started again, that nobody asked for.
        assert compose(clone, "create", **settings).returncode == 0
        assert run("docker", "inspect", "--format={{.Id}}", settings["NODE_IMAGE"]).stdout == first
        assert compose(clone, "create", "--build", **settings).returncode == 0
        again = run("docker", "inspect", "--format={{.Id}}", settings["NODE_IMAGE"]).stdout
        assert first != again
        read = ["run", "--rm", "-T", "--entrypoint", "python3", "setup", "-c"]
        done = compose(clone, *read, "import tritoncluster; print(tritoncluster.CHANGED)", **settings)
        assert done.stdout == "True\n", done.stderr
        assert asked == []
    finally:
        compose(clone, "down", "--volumes", "--rmi", "all", **settings)


def test_a_clone_is_refused_the_cluster_of_another(project: Project, clone: Path) -> None:
    def secrets() -> str:
        script = "sha256sum /secrets/*/*.crt"
        return project.compose("run", "--rm", "-T", "--entrypoint", "sh", "setup", "-c", script).stdout

    before = secrets()
    done = compose(clone, "run", "--rm", "-T", "setup", "prepare", COMPOSE_PROJECT_NAME=project.name)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("setup: a cluster of this name belongs to the clone in ")
    assert "COMPOSE_PROJECT_NAME" in line
    assert secrets() == before


@pytest.mark.parametrize("command", [["scripts/own-cluster"], ["scripts/up", "--detach", "--no-build"]])
def test_make_refuses_another_clones_cluster_before_it_touches_it(
    project: Project, clone: Path, command: list[str]
) -> None:
    environment = os.environ | {"COMPOSE_PROJECT_NAME": project.name}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tritoncluster: ")]
    assert f"the cluster {project.name} on this machine belongs to the clone in {PROJECT}: write COMPOSE_P" in line
    assert project.is_healthy(scheduler=1, gateway=1, worker=2)


def test_make_refuses_ports_of_another_clones_cluster(project: Project, clone: Path) -> None:
    environment = os.environ | {"SCHEDULER_PORT": str(project.settings["SCHEDULER_PORT"])}
    command = ["scripts/up", "--detach", "--no-build"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tritoncluster: ")]
    assert f"port {project.settings['SCHEDULER_PORT']} is taken by the cluster in {PROJECT}" in line
