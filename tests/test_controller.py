"""What runs on the controller, which may be a Mac: with BSD's commands, and with every Docker that people have."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from modules import program

#: What BSD's of these commands refuse: GNU's long options, and words that only GNU's knows.
REFUSED = {
    "readlink": "--*|-f|-e|-m",
    "mktemp": "--*|-p",
    "sed": r"--*|-r|-s|-z|-i|*'\+'*|*'\|'*",
    "tar": "--*",
    "stat": "--*|-c",
    "date": "--*|-d",
    "sort": "--*",
    "grep": "--color*|-P|--perl-regexp",
    "xargs": "--*",
}
#: A Docker that will do, as it answers; `broken` says which answer is another one.
DOCKER = """
case "$*" in
    "--version") echo "Docker version 28.0.0, build 1" ;;
    "version --format {{.Server.APIVersion}}") echo 1.48 ;;
    "compose version") ;;
    "buildx version") ;;
    "buildx inspect --bootstrap") printf 'Driver: docker\\nPlatforms: linux/amd64, linux/arm64\\n' ;;
    "info --format {{.DriverStatus}}") echo "[[driver-type io.containerd.snapshotter.v1]]" ;;
    "buildx bake"*)
        for word; do
            case $word in *,dest=*) mkdir -p "${word##*,dest=}" && echo '{}' >"${word##*,dest=}/index.json" ;; esac
            echo "$word" >>"${0%/*}/bake"
        done ;;
    *) exit 1 ;;
esac
"""
CLASSIC = '"info --format {{.DriverStatus}}") echo "[[Backing Filesystem extfs]]" ;;'
BUILDER = (
    r""""buildx inspect"*) printf 'Name: a\nDriver: docker-container\nPlatforms: linux/amd64*, linux/arm64\n' ;;"""
)
NO_ARM = r""""buildx inspect --bootstrap") printf 'Driver: docker\nPlatforms: linux/amd64, linux/386\n' ;;"""
DENIED = '"version"*) echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1 ;;'


@pytest.fixture
def bsd(tmp_path: Path) -> Path:
    """A folder of commands as BSD has them, for the first place in PATH; `timeout` is none, and Docker no real one."""
    folder = tmp_path / "bsd"
    for name, refused in REFUSED.items():
        real = shutil.which(name)
        look = f'for word; do case $word in {refused}) echo "{name}: illegal option $word" >&2; exit 64 ;; esac; done'
        program(folder, name, f'{look}\nexec {real} "$@"')
    program(folder, "timeout", "exit 127")
    program(folder, "docker", DOCKER)
    return folder


def run(bsd: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{bsd}:{os.environ['PATH']}", **more}
    return subprocess.run(command, cwd=bsd, env=environment, capture_output=True, text=True, check=False)


def without(bsd: Path, *answers: str) -> None:
    """Have Docker give other answers, which come before those that are right."""
    program(bsd, "docker", DOCKER.replace('case "$*" in\n', 'case "$*" in\n' + "\n".join(answers) + "\n"))


@pytest.mark.parametrize("purpose", ["build", "run"])
def test_an_engine_that_will_do_is_not_talked_about(bsd: Path, purpose: str) -> None:
    done = run(bsd, f"{ROOT}/docker/check-engine", purpose)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("purpose", "answers", "said"),
    [
        ("build", ['"version"*) exit 1 ;;'], "no engine answers: start Docker (`sudo systemctl start docker`"),
        ("build", [DENIED], "this login may not use Docker: run `sudo usermod --append --groups docker $USER`"),
        (
            "build",
            ['"--version") echo podman version 5.4.2 ;;'],
            "docker is podman here, which has no bake: install Docker",
        ),
        (
            "build",
            ['"version --"*) echo 1.43 ;;'],
            "the engine's API is 1.43, older than 1.44: upgrade Docker Engine to 25",
        ),
        (
            "build",
            ['"version --"*) echo 5.4.2-rc ;;', '"compose"*) exit 1 ;;', CLASSIC],
            "the engine does not use the containerd",
        ),
        (
            "build",
            ['"version --"*) echo "<no value>" ;;'],
            "the engine does not tell its API: install Docker Engine 25",
        ),
        ("build", ['"buildx version") exit 1 ;;'], "docker buildx is missing: install docker-buildx-plugin, or"),
        (
            "build",
            ['"buildx inspect"*) exit 1 ;;'],
            "the builder of docker buildx does not answer: run `docker buildx use",
        ),
        (
            "build",
            [NO_ARM],
            "it can not build for linux/arm64: run `docker run --privileged --rm tonistiigi/binfmt --install arm64`",
        ),
        ("build", [CLASSIC], "image store: run `docker buildx create --use --driver docker-container`, or set"),
        ("run", [CLASSIC, BUILDER], 'image store: set {"features": {"containerd-snapshotter": true}} in'),
        ("run", ['"compose version") exit 1 ;;'], "docker compose is missing: install docker-compose-plugin"),
    ],
)
def test_each_engine_that_will_not_do_is_one_line_with_what_mends_it(
    bsd: Path, purpose: str, answers: list[str], said: str
) -> None:
    without(bsd, *answers)
    done = run(bsd, f"{ROOT}/docker/check-engine", purpose)
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert said in line
    # The development's own engine is chosen by the same.
    status = run(bsd, f"{ROOT}/.ci/engine", "status", XDG_CACHE_HOME=f"{bsd}/cache")
    assert purpose == "build" or said in status.stderr or "ours runs" in status.stderr


def test_a_builder_of_its_own_needs_no_image_store(bsd: Path) -> None:
    without(bsd, CLASSIC, BUILDER)
    assert run(bsd, f"{ROOT}/docker/check-engine", "build").returncode == 0


def test_no_docker_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname"):
        (folder / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [f"{ROOT}/docker/check-engine"], env={"PATH": f"{folder}"}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "there is no docker command: install Docker Engine 25 or later, with buildx\n"
    assert done.returncode == 1


def test_an_engine_that_hangs_is_not_waited_for(bsd: Path) -> None:
    done = run(bsd, f"{ROOT}/docker/within", "1", "sleep", "600")
    assert done.returncode != 0
    assert run(bsd, f"{ROOT}/docker/within", "600", "sh", "-c", "echo out; exit 3").returncode == 3


def test_images_are_built_and_archived(bsd: Path, tmp_path: Path) -> None:
    done = run(bsd, f"{ROOT}/docker/archive", "my images.tar", SSL_CERT_FILE="/etc/my ca.pem")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["tar", "-tf", bsd / "my images.tar"], capture_output=True, text=True, check=True).stdout
    assert {f"{image}/index.json" for image in ("node", "notebook", "gateway")} <= set(listed.split())
    words = (bsd / "bake").read_text().splitlines()
    assert [word for word in words if word.endswith("-cross")] == ["node-cross", "notebook-cross", "gateway-cross"]
    # Named by the command line, so that buildx does not ask.
    assert words[words.index("*.secrets=id=ca,src=/etc/my ca.pem") - 1] == "--set"


def test_no_secret_is_named_without_one(bsd: Path) -> None:
    assert run(bsd, f"{ROOT}/docker/bake", "cross", SSL_CERT_FILE="").returncode == 0
    assert "secrets" not in (bsd / "bake").read_text()


def test_the_base_image_that_is_there_is_not_made(bsd: Path) -> None:
    without(bsd, '"buildx build"*) read -r line && [ "$line" = "FROM debian:trixie-slim" ] ;;')
    done = run(bsd, f"{ROOT}/docker/base/make")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_base_image_of_ones_own_is_not_made(bsd: Path) -> None:
    done = run(bsd, f"{ROOT}/docker/base/make", BASE_IMAGE="debian@sha256:" + "0" * 64)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is neither here nor in a registry" in line
    assert "set BASE_IMAGE" in line
