"""A job that is defined here alone is run, recorded, reported and drawn as those of the package are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dask.config
import jsonschema
import pytest
from distributed import Client

from tritoncluster import cli, compare, jobs
from tritoncluster.balance import balanced_map
from tritoncluster.jobs import JOBS, Job, Progress, load, silent
from tritoncluster.jobs.parameters import check_limits, parameter
from tritoncluster.report import lanes, pages
from tritoncluster.report.content import Block, JobPage, Number, Paragraph


def roll_dice(number: int) -> int:
    return number % 6 + 1


@dataclass(frozen=True)
class DiceResult:
    """Their sum."""

    total: int

    @property
    def headline(self) -> str:
        return f"the dice show {self.total}"

    def to_json(self) -> dict[str, Any]:
        return {"total": self.total}


@pytest.fixture(autouse=True)
def dice() -> Iterator[type[Job]]:
    before = dict(JOBS)

    @dataclass(frozen=True, kw_only=True)
    class Dice(Job):
        """Roll dice on the cluster."""

        name: ClassVar[str] = "loaded-dice"
        about: ClassVar[str] = "Many dice."
        tasks: ClassVar[Mapping[str, str]] = {"roll_dice": "roll the dice"}

        dice: int = parameter(10, minimum=1, demo=3, help="Dice to roll.")

        def check(self) -> None:
            check_limits(self)

        def run(self, client: Client, progress: Progress = silent) -> DiceResult:
            shown = list(balanced_map(roll_dice, range(self.dice), client))
            progress("dice", len(shown), self.dice)
            return DiceResult(sum(shown))

        def run_with_joblib(self) -> int:
            return sum(map(roll_dice, range(self.dice)))

        @classmethod
        def page(cls, result: DiceResult, record: object) -> JobPage:  # noqa: ARG003
            return JobPage(
                [Number(f"{result.total}", "pips")],
                [Paragraph("They rolled.", "Rolled")],
                [Paragraph("No dice there.")],
            )

        @classmethod
        def compared(cls) -> list[Block]:
            return [Paragraph("The poster has no dice.")]

    yield Dice
    JOBS.clear()
    JOBS.update(before)


def test_it_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "loaded-dice", "--help"])
    shown = capsys.readouterr().out
    assert "Roll dice on the cluster." in shown
    assert "--dice" in shown
    with pytest.raises(SystemExit):
        cli.main(["run", "loaded-die"])
    assert "the jobs are forest, grid-search, asian-option, loaded-dice, all" in capsys.readouterr().err


def test_it_runs_and_is_recorded_and_reported(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    with (
        dask.config.set({"scheduler-address": client.scheduler.address}),
        pytest.raises(SystemExit, match="0"),
    ):
        cli.main(["run", "loaded-dice", "--dice", "12", "--output", str(folder)])
    assert "loaded-dice: the dice show 42" in capsys.readouterr().out
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert content["result"] == {"total": 42}
    schema = Path(jobs.__file__).parents[1] / "result.schema.json"
    jsonschema.validate(content, json.loads(schema.read_text(encoding="utf-8")))
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("Loaded dice", "Many dice.", "pips", "They rolled.", "No dice there.", "roll the dice"):
        assert words in page


def test_it_is_scaled(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    words = ["scale", "loaded-dice", "--dice", "12", "--steps", "1,2", "--output", str(folder)]
    with dask.config.set({"scheduler-address": client.scheduler.address}), pytest.raises(SystemExit, match="0"):
        cli.main(words)
    shown = capsys.readouterr().out
    assert "; by the rates of the machines" in " ".join(shown.split())
    assert f"Report: {folder}" in shown
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert [step["workers"] for step in content["result"]["steps"]] == [1, 2]
    assert "Loaded dice: what each machine brings" in (folder / "report.html").read_text(encoding="utf-8")
    with dask.config.set({"scheduler-address": client.scheduler.address}), pytest.raises(SystemExit, match="2"):
        cli.main([*words[:4], "--steps", "9"])
    assert "there are 2 machines, not 9" in capsys.readouterr().err


def test_its_tasks_have_its_names_and_its_comparison_its_words(dice: type[Job]) -> None:
    assert load("loaded-dice") is dice
    assert lanes.for_people("roll_dice") == "roll the dice"
    ways = [compare.Way("serial", 1.0), compare.Way("cluster", 2.0)]
    compared = compare.Comparison("loaded-dice", {}, _started(), ways, [], "tcp://x", {})
    page = pages.of_comparison(compared)
    assert page.title == "Loaded dice: how the cluster compares"
    assert page.sections[0].blocks[-1] == Paragraph("The poster has no dice.")


def test_a_job_without_a_page_of_its_own_has_its_headline() -> None:
    page = Job.page(DiceResult(3), None)
    assert page.blocks == [Paragraph("the dice show 3.")]


def test_each_package_here_is_a_job_and_nothing_else_is() -> None:
    folders = {path.parent.name for path in Path(jobs.__file__).parent.glob("*/__init__.py")}
    assert {name.replace("-", "_") for name in JOBS} == folders | {"loaded_dice"}
    assert all(issubclass(load(name), Job) for name in JOBS)


def _started() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 3, 14, tzinfo=UTC)
