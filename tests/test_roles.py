"""The roles' modules and the check of their argument specs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def module(name: str, **arguments: object) -> dict[str, object]:
    """Run one of the modules on this machine."""
    given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    command = [sys.executable, ROOT / "ansible/library" / f"{name}.py"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def files(folder: Path, user: tuple[str, str], **content: str) -> dict[str, object]:
    wanted = {"path": str(folder), "files": content, "modes": {"key": "0600"}, "owner": user[0], "group": user[1]}
    return module("node_files", folders=[wanted])


@pytest.fixture
def user(tmp_path: Path) -> tuple[str, str]:
    return tmp_path.owner(), tmp_path.group()


def test_files_are_written_once(tmp_path: Path, user: tuple[str, str]) -> None:
    folder = tmp_path / "service"
    first = files(folder, user, settings="a=1\n", key="secret")
    assert first["changed"]
    assert (folder / "settings").read_text() == "a=1\n"
    assert (folder / "settings").stat().st_mode & 0o777 == 0o644
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert not files(folder, user, settings="a=1\n", key="secret")["changed"]
    changed = files(folder, user, settings="a=2\n", key="secret")
    assert changed["written"] == [str(folder / "settings")]


def test_modes_are_put_right(tmp_path: Path, user: tuple[str, str]) -> None:
    files(tmp_path, user, key="secret")
    (tmp_path / "key").chmod(0o644)
    assert files(tmp_path, user, key="secret")["changed"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def check(roles: Path) -> str:
    command = [sys.executable, ROOT / "scripts/check_argument_specs.py", roles]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    ("default", "said"),
    [
        ("web_port: 80", ""),
        ("web_port: 81", "web: web_port is 81, but described as 80\n"),
        ("{}", "web: web_port has no default\n"),
        ("web_port: 80\nweb_name: x", "web: web_name has no description\n"),
    ],
)
def test_argument_specs_describe_the_defaults(tmp_path: Path, default: str, said: str) -> None:
    for name, content in {
        "meta/argument_specs.yml": "argument_specs: {main: {options: {web_port: {default: 80, description: Port.}}}}",
        "defaults/main.yml": default,
    }.items():
        file = tmp_path / "web" / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
    assert check(tmp_path) == said
