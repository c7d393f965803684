"""A job on growing sets of machines; what of it a browser shows is for tests/test_report_page.py."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import runs
from distributed import Client

from tritoncluster import report
from tritoncluster.balance import Share, Summary, balanced_map, only_workers
from tritoncluster.cli.scale import parse_steps
from tritoncluster.errors import InputError
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.record import Span
from tritoncluster.report import pages
from tritoncluster.report.content import Table
from tritoncluster.scale import Machine, Scaling, Step, scale
from tritoncluster.scale.machines import WATTS, _watts, machines_of
from tritoncluster.scale.steps import rates_of

SCHEMA = json.loads(files("tritoncluster").joinpath("result.schema.json").read_text())
PI, LAPTOP, DESKTOP = (
    Machine("pi", frozenset({"pi"}), 4, 2**31, 6.0),
    Machine("laptop", frozenset({"laptop"}), 7, 2**34),
    Machine("desktop", frozenset({"desk-a", "desk-b"}), 7, 2**34, 150.0),
)


def scaling(*, others: float = 0.0, alone: bool = True) -> Scaling:
    machines = [PI, LAPTOP, DESKTOP]

    def step(count: int, seconds: float) -> Step:
        spans = [Span("pi", 1, "their_task", "compute", 0.0, others)]
        return Step(machines[:count], runs.forest(8000, seconds=seconds, spans=spans))

    steps = [step(1, 200.0), step(2, 80.0), step(3, 74.0)]
    singles = [Step([each], runs.forest(8000, seconds=100.0, spans=[])) for each in machines] if alone else []
    rates = {"pi": 0.2, "laptop": 0.3, "desktop": 0.5}
    return Scaling("forest", {"trees": 8000}, datetime(2026, 3, 14, tzinfo=UTC), machines, steps, singles, rates)


def test_the_verdict_says_what_the_last_machine_brought_and_could_have() -> None:
    assert scaling().verdict == (
        "desktop with 7 threads made the work 8% faster; by the rates of the machines themselves it could have been "
        "2.0 times as fast."
    )


def test_the_page_has_table_speed_up_and_the_posters_points(tmp_path: Path) -> None:
    found = scaling(others=70.0)
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
            # It began before the step, and ended after it.
            Span("pi", 2, "their_task", "compute", -100, 2),
            Span("pi", 2, "their_task", "compute", 4.5, 60),
            Span("left-out", 1, "parallel_build_trees", "compute", 0, 0.5),
            Span("left-out", 1, "parallel_build_trees", "transfer", 0, 9),
        ],
        balance=[runs.summary("parallel_build_trees")],
    )
    assert Step([PI], record).others_seconds == pytest.approx(2 + 0.5 + 0.5)
    # What the worker saw of others: the same, and one that has not ended.
    saw = runs.summary("parallel_build_trees")
    share = replace(saw.shares.pop("0"), beside={"tcp://pi": [({"run": "theirs"}, 4.0)]})
    saw.shares["pi"] = share
    assert Step([PI], replace(record, balance=[saw])).others_seconds == pytest.approx(4 + 0.5)


def step_of(busy: dict[str, float], *, others: float = 0.0, gone: str = "") -> Step:
    """A step of 10 s in which each worker made 10 calls in so many seconds."""
    shares = {
        name: Share(1, [(0.0, 9.0 if name == gone else None)], items=10, work=10.0, busy=seconds)
        for name, seconds in busy.items()
    }
    machines = [Machine(name, frozenset({name}), 1, 0) for name in busy]
    spans = [Span("a", 1, "theirs", "compute", 0.0, others)]
    part = Summary("work", seconds=10.0, work=10.0 * len(busy), shares=shares)
    return Step(machines, runs.forest(seconds=10.0, spans=spans, balance=[part]))


def test_rates_are_of_the_last_step_that_nobody_disturbed() -> None:
    quiet, crowded = step_of({"a": 10.0, "b": 2.5}), step_of({"a": 10.0, "b": 10.0}, others=5.0)
    machines = quiet.machines
    assert (quiet.disturbed, crowded.disturbed) == (False, True)
    assert rates_of(machines, [crowded, quiet, crowded]) == ({"a": 0.2, "b": 0.8}, set())
    assert rates_of(machines, [crowded]) == ({"a": 0.5, "b": 0.5}, {"a", "b"})


def test_a_step_that_a_worker_left_says_less() -> None:
    step = step_of({"a": 10.0, "b": 2.5}, gone="b")
    assert step.away == ["b"]
    assert step.disturbed


def test_the_rate_of_a_machine_that_did_nothing_is_not_known() -> None:
    both = step_of({"a": 10.0, "b": 0.0})
    assert rates_of(both.machines, [both]) == ({"a": 1.0}, set())
    # One of two on a host is as fast as the other.
    host = Machine("host", frozenset({"a", "b"}), 2, 0)
    assert rates_of([host], [replace(both, machines=[host])]) == ({"host": 1.0}, set())
    first = step_of({"a": 10.0})
    found = replace(scaling(alone=False), machines=both.machines, steps=[first, both], rates={"a": 1.0})
    assert found.verdict == "b with 1 thread made the work 0% faster."
    assert found.to_json()["result"]["machines"][1]["rate"] is None
    jsonschema.validate(found.to_json(), SCHEMA)
    assert [row[2] for row in pages.of_scaling(found).sections[0].blocks[-1].rows] == ["100%", "–"]


def test_the_verdict_compares_sets_of_which_one_has_the_other() -> None:
    found = scaling(alone=False)
    one, two, three = found.steps
    lost = replace(found, steps=[one, two, replace(three, machines=[PI, DESKTOP])], left_out={"laptop": "it slept"})
    assert lost.verdict == (
        "desktop with 7 threads made the work 2.7 times as fast; by the rates of the machines themselves it could have "
        "been 3.5 times as fast. laptop was left out on the way: it slept."
    )
    none = replace(lost, steps=[two, lost.steps[-1]])
    assert none.verdict == (
        "No two steps compare, since machines were lost on the way; run it again. laptop was left out on the way: it "
        "slept."
    )


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"uncertain": frozenset({"desktop"})}, "what could have been is uncertain"),
        ({"rates": {"pi": 0.3, "laptop": 0.2, "desktop": 0.5}}, "in the order of a first run"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_the_verdict_says_what_it_is_not_sure_of(changes: dict[str, Any], doubt: str) -> None:
    assert doubt in replace(scaling(alone=False), **changes).verdict
    assert doubt not in scaling(alone=False).verdict


def test_the_verdict_says_when_others_disturbed_it() -> None:
    assert scaling(others=70.0).verdict.endswith("Others used the cluster meanwhile, so this says less.")


def test_the_fastest_machine_is_the_one_that_was_it_alone() -> None:
    found = scaling()
    quick = replace(found.alone[1], record=replace(found.alone[1].record, seconds=60.0))
    assert replace(found, alone=[found.alone[0], quick, found.alone[2]]).one_machine == 60.0


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
    assert [step.machines[0] for step in found.alone] == list(found.machines)
    assert found.rates.keys() == {machine.name for machine in found.machines}
    assert sum(found.rates.values()) == pytest.approx(1)
    for step in (*found.steps, *found.alone):
        chosen = frozenset[str]().union(*(machine.workers for machine in step.machines))
        assert {name for part in step.record.balance for name in part.shares} == chosen
        assert {span.worker for span in step.record.spans} <= chosen
    results = {step.record.result.estimate for step in (*found.steps, *found.alone)}
    assert len(results) == 1
    assert told[-1][1:] == (5, 5)
    assert found.steps[0] is found.alone[0]
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
