"""What `make setup` does on machines that have little, or the wrong thing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: The interpreter itself: the one in .venv would bring its packages along.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
#: All that set-up may need. No uv, no pip; no interpreter under another name.
COMMANDS = ["awk", "cat", "dirname", "git", "make", "rm", "sh"]
#: A Debian without python3-venv fails to import just this.
NO_VENV = ("ensurepip.py", "raise ModuleNotFoundError(\"No module named 'ensurepip'\")")
TOO_OLD = ("sitecustomize.py", "import sys; sys.version_info = (3, 10, 12, 'final', 0)")
#: Takes note of how it is called; knows no up-to-date .venv.
UV = """#!/bin/sh
case " $* " in *" --check "*) exit 1 ;; esac
echo "$*" >>"$0.log"
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder for PATH, with make and little else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in COMMANDS:
        path = shutil.which(name)
        assert path, f"{name} is not here"
        (folder / name).symlink_to(path)
    return folder


@pytest.fixture
def bare(environment: dict[str, str], commands: Path) -> dict[str, str]:
    """An environment with these commands alone."""
    return {name: value for name, value in environment.items() if name != "PYTHON"} | {"PATH": f"{commands}"}


def make(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def shim(folder: Path, file: tuple[str, str]) -> str:
    """Put a module where PYTHONPATH finds it before the standard library."""
    name, content = file
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    return f"{folder}"


@pytest.mark.timeout(900)
def test_python_and_make_are_enough(clone: Path, bare: dict[str, str], commands: Path) -> None:
    (commands / "python3").symlink_to(PYTHON)
    assert make(clone, bare, "setup").returncode == 0
    command = [f"{clone}/.venv/bin/tritoncluster", "--version"]
    version = subprocess.run(command, env=bare, check=True, capture_output=True, text=True).stdout
    assert "0.1.0" in version
    assert not subprocess.run(["git", "status", "--porcelain"], cwd=clone, check=True, capture_output=True).stdout

    # Whoever makes anything sets up before: it finds that there is nothing to do.
    again = make(clone, bare, "setup")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("found", "broken", "given", "expected"),
    [
        (["python3"], NO_VENV, None, f"install the package python3.{sys.version_info.minor}-venv"),
        (["python3"], TOO_OLD, None, "python3 is Python 3.10, and 3.11 or later is needed: install the package"),
        ([], None, None, "install the packages python3 and python3-venv"),
        (["python3"], None, "no-such-python", "no-such-python is not here or does not run"),
    ],
)
def test_what_is_missing_is_one_line(
    clone: Path,
    bare: dict[str, str],
    commands: Path,
    found: list[str],
    broken: tuple[str, str] | None,
    given: str | None,
    expected: str,
) -> None:
    for name in found:
        (commands / name).symlink_to(PYTHON)
    if broken:
        bare["PYTHONPATH"] = shim(commands.parent / "shim", broken)
    done = make(clone, bare, "setup", *([f"PYTHON={given}"] if given else []))
    assert done.returncode != 0
    # The last word is that of make, which always has it.
    line, of_make = (done.stdout + done.stderr).splitlines()
    assert expected in line
    assert of_make.startswith("make: ***")
    assert not (clone / ".venv").exists()
    assert not (clone / ".cache").exists()


def test_a_newer_python_serves_where_the_default_is_too_old(clone: Path, bare: dict[str, str], commands: Path) -> None:
    old = shim(commands.parent / "shim", TOO_OLD)
    for name, content in [("python3", f'#!/bin/sh\nPYTHONPATH={old} exec {PYTHON} "$@"\n'), ("uv", UV)]:
        (commands / name).write_text(content)
        (commands / name).chmod(0o755)
    (commands / "python3.12").symlink_to(PYTHON)
    assert make(clone, bare, "setup").returncode == 0
    (sync,) = [line for line in (commands / "uv.log").read_text().splitlines() if line.startswith("sync")]
    assert f"--python {commands / 'python3.12'}" in sync
    assert "--locked" in sync
