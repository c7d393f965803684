import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
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


#: `one` and `two` end when both have begun; `long` cleans up after Ctrl-C, but forgets a process.
GROUPS = """
good:
	@echo good runs
bad:
	@echo bad runs; false
one two:
	@echo $@ begins; touch $@; until [ -e one ] && [ -e two ]; do sleep 0.05; done; echo $@ ends
long:
	@trap 'sleep 0.5; echo cleaned up; exit 1' INT; sleep 1000 & echo $$! >forgotten; \\
	touch begun; while :; do sleep 0.05; done
"""


def start_groups(folder: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    (folder / "Makefile").write_text(GROUPS)
    return subprocess.Popen(
        [ROOT / "scripts" / "run-groups", *words],
        env={**environment, "MAKE": f"make -f '{folder}/Makefile'"},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def summary(printed: str) -> dict[str, str]:
    """Give group -> how it ended, of the last lines."""
    return dict(re.findall(r"^  (\S+) +(\w+) in \d+ s$", printed, re.MULTILINE))


@pytest.mark.parametrize(("groups", "status"), [("good good", 0), ("bad good", 1)])
def test_groups_all_run_and_one_that_fails_fails_the_whole(
    tmp_path: Path, environment: dict[str, str], groups: str, status: int
) -> None:
    run = start_groups(tmp_path, environment, *groups.split())
    printed, _ = run.communicate()
    assert run.returncode == status
    assert printed.count("good runs") == groups.split().count("good")
    assert printed.splitlines()[-1] == f"groups: {2 - status} passed, {status} failed"


def test_lanes_run_beside_each_other_and_print_each_group_whole(tmp_path: Path, environment: dict[str, str]) -> None:
    run = start_groups(tmp_path, environment, "one", "bad", "--beside", "two", "good")
    printed, _ = run.communicate()
    assert run.returncode == 1
    for group in ("one", "two"):
        assert f"== {group}\n{group} begins\n{group} ends\n" in printed
    assert "good runs\n" in printed
    assert "bad runs\n" in printed
    assert summary(printed) == {"one": "passed", "two": "passed", "bad": "FAILED", "good": "passed"}
    assert printed.splitlines()[-1] == "groups: 3 passed, 1 failed"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [([], 2, ""), (["good", "--beside", "nowhere"], 1, "groups: 1 passed, 1 failed\n")],
)
def test_groups_that_are_not_there_are_no_success(
    tmp_path: Path, environment: dict[str, str], words: list[str], status: int, said: str
) -> None:
    run = start_groups(tmp_path, environment, *words)
    assert run.communicate()[0].endswith(said)
    assert run.returncode == status


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_groups_that_are_stopped_clean_up_and_leave_nothing(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    # `one` waits for `two`, which never begins.
    run = start_groups(tmp_path, environment, "good", "long", "good", "--beside", "one", "two")
    while not (tmp_path / "begun").exists() or not (tmp_path / "one").exists():
        time.sleep(0.05)
    run.send_signal(number)
    printed, _ = run.communicate()
    assert run.returncode == 128 + number
    assert "== one\none begins\n" in printed
    assert "== long\ncleaned up\n" in printed
    assert summary(printed) == {"good": "passed", "long": "stopped", "one": "stopped"}
    assert printed.splitlines()[-1] == "groups: 1 passed, 0 failed, 4 stopped or not begun"
    # Killing takes a moment, not 1000 s.
    while is_running(int((tmp_path / "forgotten").read_text())):
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Tell whether a process is there, and not only its exit status."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_checks_are_groups_of_make_test(environment: dict[str, str]) -> None:
    # With -n, groups print what they would do.
    printed = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    checks = set(re.findall(r"^(lint|test-[\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # Not among them: what takes long, which is rooms that change, a whole machine emulated, and everything built twice.
    assert set(summary(printed)) == checks - {"test-lifecycle", "test-raspberry-pi", "test-reproducible"}


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


def test_without_a_scenario_nothing_passes(scenarios: Path, environment: dict[str, str]) -> None:
    run = start_scenarios(scenarios, environment)
    assert "usage: scripts/test-molecule SCENARIO" in run.communicate()[1]
    assert run.returncode == 2


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
