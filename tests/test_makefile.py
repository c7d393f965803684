import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT


def test_make_lists_every_target_with_what_it_does(environment: dict[str, str]) -> None:
    listed = subprocess.run(["make"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    targets = set(re.findall(r"^([\w%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert {"demo", "setup", "test", "test-unit", "test-pages", "lint", "format", "poster", "bench", "clean"} <= targets
    for target in targets:
        assert re.search(rf"^  make {target.replace('%', 'NAME')} +\S+", listed, re.MULTILINE), target
    assert [line for line in listed.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize(
    "scenario", sorted((ROOT / "molecule").glob("*/molecule.yml")), ids=lambda file: file.parent.name
)
def test_scenarios_have_tests(scenario: Path) -> None:
    # Molecule passes over a verifier that finds none.
    assert list((scenario.parent / "tests").glob("test_*.py"))


@pytest.mark.parametrize(("groups", "status"), [("good good", 0), ("bad good", 1)])
def test_groups_all_run_and_one_that_fails_fails_the_whole(
    tmp_path: Path, environment: dict[str, str], groups: str, status: int
) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text("good:\n\t@echo good runs\nbad:\n\t@false\n")
    run = subprocess.run(
        [ROOT / "scripts" / "run-groups", *groups.split()],
        env={**environment, "MAKE": f"make -f {makefile}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == status
    assert run.stdout.count("good runs") == groups.split().count("good")
    assert run.stdout.splitlines()[-1] == f"groups: {2 - status} passed, {status} failed"


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    """A program in the place of molecule: it notes how it is called, scenario `bad` fails, `long` does not end."""
    program = tmp_path / "molecule"
    program.write_text(
        "#!/bin/sh\n"
        'echo "$1 $3" >>"${0%/*}/calls"\n'
        'case "$1 $3" in "test bad") exit 1 ;; "test long") exec sleep 60 ;; esac\n'
    )
    program.chmod(0o755)
    return tmp_path


def start_scenarios(folder: Path, environment: dict[str, str], *names: str) -> subprocess.Popen[str]:
    path = f"{folder}:{environment['PATH']}"
    command = [ROOT / "scripts" / "test-molecule", *names]
    return subprocess.Popen(command, env={**environment, "PATH": path}, stderr=subprocess.PIPE, text=True)


def test_scenarios_all_run_and_one_that_fails_fails_the_whole(scenarios: Path, environment: dict[str, str]) -> None:
    run = start_scenarios(scenarios, environment, "bad", "good")
    assert "scenarios that failed: bad\n" in run.communicate()[1]
    assert run.returncode == 1
    assert (scenarios / "calls").read_text() == "test bad\ntest good\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_hosts_are_destroyed_when_scenarios_are_stopped(
    scenarios: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    run = start_scenarios(scenarios, environment, "long", "good")
    calls = scenarios / "calls"
    while not calls.exists() or "test long" not in calls.read_text():
        time.sleep(0.05)
    run.send_signal(number)
    run.communicate()
    assert run.returncode == 130
    assert calls.read_text() == "test long\ndestroy long\n"
