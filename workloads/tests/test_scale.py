"""A job on growing sets of machines; what of it a browser shows is for tests/test_report_page.py."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import runs
from distributed import Client

from tritoncluster import report
from tritoncluster.balance import balanced_map, only_workers
from tritoncluster.cli.scale import parse_steps
from tritoncluster.errors import InputError
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.record import Span
from tritoncluster.report import pages
from tritoncluster.report.content import Table
from tritoncluster.scale import WATTS, Machine, Scaling, Step, _watts, machines_of, others_seconds, scale

SCHEMA = json.loads(files("tritoncluster").joinpath("result.schema.json").read_text())
PI, LAPTOP, DESKTOP = (
    Machine("pi", frozenset({"pi"}), 4, 2**31, 6.0),
    Machine("laptop", frozenset({"laptop"}), 7, 2**34),
    Machine("desktop", frozenset({"desk-a", "desk-b"}), 7, 2**34, 150.0),
)


def scaling(*, others: float = 0.0, alone: bool = True) -> Scaling:
    machines = [PI, LAPTOP, DESKTOP]

    def step(count: int, seconds: float) -> Step:
        return Step(machines[:count], runs.forest(8000, seconds=seconds), others)

    steps = [step(1, 200.0), step(2, 80.0), step(3, 74.0)]
    singles = [Step([each], runs.forest(8000, seconds=100.0)) for each in machines] if alone else []
    rates = {"pi": 0.2, "laptop": 0.3, "desktop": 0.5}
    return Scaling("forest", {"trees": 8000}, datetime(2026, 3, 14, tzinfo=UTC), machines, steps, singles, rates)


def test_the_verdict_says_what_the_last_machine_brought_and_could_have() -> None:
    assert scaling().verdict == (
        "desktop with 7 threads made the work 8% faster; by the rates of the machines themselves it could have been "
        "100% faster."
    )


def test_the_page_has_table_speed_up_and_the_posters_points(tmp_path: Path) -> None:
    found = scaling(others=1000.0)
    page = pages.of_scaling(found)
    (chart, steps, alone, worth) = page.sections[0].blocks
    assert ("the poster, on other hardware") in [name for name, _colour in chart.legend]
    assert isinstance(steps, Table)
    assert steps.rows[2][:3] == ["3: pi, laptop and desktop", "4", "18"]
    assert steps.rows[2][5:7] == ["2.70", "1.35"]
    assert steps.rows[0][4].endswith("*")
    assert "Others used the cluster" in steps.note
    assert isinstance(alone, Table)
    assert "Others" not in alone.note
    # 200 s of 6 W; nobody said what the laptop draws.
    assert [row[8] for row in steps.rows] == ["1.2 kJ", "–", "–"]
    assert isinstance(worth, Table)
    assert worth.rows == [
        ["pi", "4", "20%", "6 W", "4%", "1.00"],
        ["desktop", "7", "50%", "150 W", "96%", "0.10"],
        ["laptop", "7", "30%", "–", "–", "–"],
    ]
    report.write_scaling(found, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 0
    jsonschema.validate(found.to_json(), SCHEMA)


def test_without_watts_the_page_says_where_to_give_them() -> None:
    machines = [replace(machine, watts=0.0) for machine in (PI, LAPTOP, DESKTOP)]
    found = replace(scaling(alone=False), machines=machines)
    found = replace(found, steps=[replace(step, machines=machines[: len(step.machines)]) for step in found.steps])
    (_chart, steps, worth) = pages.of_scaling(found).sections[0].blocks
    assert isinstance(steps, Table)
    assert isinstance(worth, Table)
    assert "#energy" not in steps.columns
    assert "Give host_watts in the inventory" in worth.note
    assert {tuple(row[3:]) for row in worth.rows} == {("–", "–", "–")}
    jsonschema.validate(found.to_json(), SCHEMA)


@pytest.mark.parametrize(
    ("said", "watts"),
    [("6.5", 6.5), (None, 0.0), ("", 0.0), ("-1", 0.0), ("nan", 0.0), ("much", 0.0), (TimeoutError(), 0.0)],
)
def test_watts_that_make_no_sense_are_unknown(said: object, watts: float) -> None:
    assert _watts(said) == watts


def test_times_of_another_size_are_not_beside_the_posters() -> None:
    found = replace(scaling(), parameters={"trees": 3000})
    chart = pages.of_scaling(found).sections[0].blocks[0]
    time, speed_up = [len(panel.plot.renderers) for panel in chart.panels]
    assert speed_up == time + 1
    assert "another size" in chart.note
    assert "another size" not in pages.of_scaling(scaling()).sections[0].blocks[0].note


def test_one_step_compares_nothing() -> None:
    found = replace(scaling(alone=False), steps=scaling().steps[:1])
    assert "add a machine" in found.verdict
    assert found.one_machine is None
    assert pages.of_scaling(found).sections[0].blocks


def test_others_tasks_are_those_of_other_names_or_of_workers_that_are_left_out() -> None:
    record = runs.forest(
        spans=[
            Span("pi", 1, "parallel_build_trees", "compute", 0, 4),
            Span("pi", 1, "~argument", "compute", 4, 5),
            Span("pi", 1, "their_task", "compute", 5, 7),
            Span("left-out", 1, "parallel_build_trees", "compute", 0, 0.5),
            Span("left-out", 1, "parallel_build_trees", "transfer", 0, 9),
        ],
        balance=[runs.summary("parallel_build_trees")],
    )
    assert others_seconds(record, frozenset({"pi"})) == pytest.approx(2.5)


@pytest.mark.parametrize("given", ["", "0", "1,,2", "-1", "two", "1;2", "1.5", "²"])
def test_steps_that_are_no_numbers_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="numbers of machines with commas"):
        parse_steps(given)


def test_steps_are_read() -> None:
    assert parse_steps("1, 2,4") == [1, 2, 4]
    assert parse_steps(None) == []


def test_workers_that_are_not_chosen_get_nothing(client: Client) -> None:
    first, *_others = client.scheduler_info()["workers"].values()
    large = bytes(50_000)
    with only_workers({str(first["name"])}):
        results = balanced_map(lambda number: (number, len(large)), range(40), client)
        one = next(results)
        # While it runs: what it shares is on the chosen one alone.
        holders = {address for addresses in client.who_has().values() for address in addresses}
        rest = list(results)
    assert [number for number, _length in [one, *rest]] == list(range(40))
    info = client.scheduler_info(n_workers=-1)["workers"]
    assert {str(info[address]["name"]) for address in holders} <= {str(first["name"])}


def test_it_grows_from_one_machine_to_all(client: Client) -> None:
    told: list[tuple[str, int, int]] = []
    found = scale(client, AsianOption(paths=40_000), alone=True, progress=lambda *each: told.append(each))
    assert [len(step.machines) for step in found.steps] == [1, 2]
    assert found.rates[found.machines[0].name] <= found.rates[found.machines[1].name]
    for step in (*found.steps, *found.alone):
        chosen = frozenset[str]().union(*(machine.workers for machine in step.machines))
        assert {name for part in step.record.balance for name in part.shares} == chosen
        assert {span.worker for span in step.record.spans} <= chosen
    results = {step.record.result.estimate for step in (*found.steps, *found.alone)}
    assert len(results) == 1
    assert told[-1][1:] == (5, 5)
    content = found.to_json()
    jsonschema.validate(content, SCHEMA)
    assert content["result"]["steps"][0]["speed_up"] == 1


def test_more_machines_than_there_are_can_not_be_asked_for(client: Client) -> None:
    with pytest.raises(InputError, match="there are 2 machines, not 3; write numbers up to 2"):
        scale(client, AsianOption(paths=2000), [1, 3])


def test_a_worker_says_what_its_host_draws(client: Client) -> None:
    names = [str(info["name"]) for info in client.scheduler_info()["workers"].values()]
    first = next(iter(client.scheduler_info()["workers"]))
    client.run(exec, f"import os; os.environ[{WATTS!r}] = '6.5'", workers=[first])
    try:
        found = {machine.name: machine.watts for machine in machines_of(client, frozenset(names))}
    finally:
        client.run(exec, f"import os; del os.environ[{WATTS!r}]", workers=[first])
    assert sorted(found.values()) == [0.0, 6.5]
