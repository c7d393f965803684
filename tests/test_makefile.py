import re
import subprocess
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
