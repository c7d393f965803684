"""The roles' modules and the check of their argument specs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from modules import module


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


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ("{required: true, description: Port.}", ""),
        (
            "{default: 80, description: Port.}",
            "web: web_port is not described as required\nweb: web_port has no default\n",
        ),
    ],
)
def test_what_no_user_sets_is_no_setting(tmp_path: Path, described: str, said: str) -> None:
    for name, content in {
        "meta/argument_specs.yml": f"argument_specs: {{main: {{options: {{web_port: {described}}}}}}}",
        "defaults/main/cluster.yml": 'web_port: "{{ cluster_port }}"',
    }.items():
        file = tmp_path / "web" / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
    assert check(tmp_path) == said


def tasks(found: object, **inherited: object) -> list[dict[str, object]]:
    """Give the tasks of a file, each with what its blocks and plays say for it."""
    if isinstance(found, list):
        return [task for each in found for task in tasks(each, **inherited)]
    assert isinstance(found, dict)
    said = inherited | found
    inner = [task for key in ("tasks", "pre_tasks", "block", "rescue", "always") for task in found.get(key, [])]
    passed_on = {key: said[key] for key in ("delegate_to", "become", "vars") if key in said}
    return tasks(inner, **passed_on) if inner else [said]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ansible").rglob("*.yml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_tasks_of_every_file(path: Path) -> None:
    if {"vars", "defaults", "meta"} & {*path.parts}:
        return
    content = path.read_text()
    assert len(content.splitlines()) <= 70 or path.name == "site.yml"
    for task in tasks(yaml.safe_load(content)):
        # The inventory's ansible_become would hold there too, whatever `become` says.
        if task.get("delegate_to") == "localhost":
            assert task["become"] is False, task["name"]
            assert task["vars"]["ansible_become"] is False, task["name"]
        # A proxy of the host's serves what is outside of the room.
        if "ansible.builtin.uri" in task:
            assert task["ansible.builtin.uri"]["use_proxy"] is False, task["name"]
        if "skopeo" in str(task.get("ansible.builtin.command", "")):
            assert task["environment"]["NO_PROXY"] == "*", task["name"]
        # It waits for no lock where its own package is missing, and removes others.
        assert "ansible.builtin.apt" not in task, task["name"]


@pytest.mark.parametrize("path", sorted((ROOT / "ansible").glob("[lm]*/*.py")), ids=lambda path: path.name)
def test_modules_run_on_old_pythons(path: Path) -> None:
    """With Python 3.8, which Ansible still works with, so that the check can say that the system is too old."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    newer = {"removeprefix", "removesuffix", "readlink", "is_relative_to", "hardlink_to", "bit_count", "walk"}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "os"}
    assert used & newer == set()
    # Dictionaries learned this in 3.9; here it is for sets and numbers that are named so.
    unions = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    places = [getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")]
    annotations = {id(part) for place in places if place for part in ast.walk(place)}
    assert [ast.unparse(node) for node in unions if id(node) not in annotations] == []
    grown = [node for node in ast.walk(tree) if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr)]
    assert [ast.unparse(node) for node in grown if isinstance(node.value, ast.Dict)] == []
