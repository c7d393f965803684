"""The commands of README.md do what it says, in a fresh clone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

#: Commands of the README that do not run here. Lines with a <placeholder> do not run either.
NOT_HERE = {
    "make test": "it runs this test",
    "make lint": "`make test` runs it",
    "make test-unit": "`make test` runs it",
    "make poster": "it takes minutes",
    "make survival": "it takes minutes",
    "make bench": "it takes minutes",
    "make demo FULL=1": "it takes minutes",
}
PLACEHOLDER = re.compile(r"<[a-z][a-z -]*>")


def scripts(markdown: str) -> list[str]:
    """Give what the ```sh blocks run here, one script a block; ```console and ```text blocks are there to be read."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    kept = ["\n".join(line for line in block.splitlines() if _runs_here(line)) for block in blocks]
    return [script for script in kept if script]


def _runs_here(line: str) -> bool:
    command = re.split(r"\s+#", line)[0].strip()
    return bool(command) and not command.startswith("#") and command not in NOT_HERE and not PLACEHOLDER.search(command)


def test_scripts_leave_out_what_can_not_run() -> None:
    markdown = """
```sh
git clone <address of the project> tritoncluster && cd tritoncluster
make demo   # a minute
make test
```
```console
$ nonsense
```
```sh
# Nothing but a comment.
make demo FULL=1  # an hour
```
```sh
cat <<END
two lines
END
```
"""
    assert scripts(markdown) == ["make demo   # a minute", "cat <<END\ntwo lines\nEND"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_run_and_reports_are_where_they_say(clone: Path, environment: dict[str, str]) -> None:
    to_run = scripts((clone / "README.md").read_text())
    assert any("make demo" in script for script in to_run)
    reports = []
    for script in to_run:
        done = subprocess.run(
            ["bash", "-xeuo", "pipefail", "-c", script],
            cwd=clone,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        reports += re.findall(r"^Report: (.+)$", done.stdout, re.MULTILINE)
    assert reports
    for report in reports:
        assert (clone / report).read_text().lstrip().lower().startswith("<!doctype html>")


def test_linked_files_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    local = [target for target in targets if not re.match(r"\w+:", target)]
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_settings_are_those_of_the_roles() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/settings_table.py"], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() in (ROOT / "README.md").read_text()
