"""The tables of faults, of what may be lost, and of whom to trust with what, name tests that are there."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

#: Target of `make` -> what it runs.
TESTS = {
    "test-unit": ["workloads/tests"],
    "test-repository": ["-m", "not pages and not containers and not compose", "tests"],
    "test-images": ["-m", "containers", "tests"],
    "test-compose": ["-m", "compose", "tests"],
}
TABLES = "".join((ROOT / name).read_text() for name in ("docs/faults.md", "docs/trust.md", "README.md"))
COMMANDS = re.findall(r"`make (test-\w+) ARGS='(?:-k )?\"?([^'\"]+)\"?'`", TABLES)


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    """Give the tests of each target: their files and names."""
    found = {}
    # What a person sets, as -vv, changes what is printed.
    quiet = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    for target, arguments in TESTS.items():
        asked = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *arguments]
        told = subprocess.run(asked, cwd=ROOT, env=quiet, capture_output=True, text=True, check=True).stdout
        found[target] = [re.sub(r"^\S*/(?=\w+\.py::)", "", line).lower() for line in told.splitlines() if "::" in line]
    return found


@pytest.mark.parametrize(("target", "words"), COMMANDS)
def test_each_row_names_tests(target: str, words: str, names: dict[str, list[str]]) -> None:
    """Pytest's -k takes what has the words in the names of its file or test."""
    if target == "test-molecule":
        assert (ROOT / "molecule" / words).is_dir()
        return
    keywords = ("and", "or", "not")
    selects = re.sub(r"\w+", lambda word: word[0] if word[0] in keywords else f"({word[0]!r} in name)", words.lower())
    matches = [name for name in names[target] if eval(selects, {"name": name})]  # noqa: S307 - our own table's words
    assert matches, f"no test of {target} is {words}"


def test_the_table_is_read() -> None:
    assert len(COMMANDS) > 50
