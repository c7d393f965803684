"""What the report says and draws; that a browser shows it is for tests/test_report_page.py."""

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import runs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tritoncluster import report
from tritoncluster.balance import Share, Summary
from tritoncluster.compare import Comparison, Way
from tritoncluster.record import Span, Worker, to_json
from tritoncluster.report import balance, cluster, heat_map, lanes, pages, style, text, timeline
from tritoncluster.report.content import Chart, Page, Paragraph, Section, Table
from tritoncluster.report.render import options_whole


def texts(page: Page) -> str:
    """All that a page says, less what its plots do."""
    return repr(replace(page, sections=[replace(section, blocks=plain(section)) for section in page.sections]))


def plain(section: Section) -> list[object]:
    return [replace(block, panels=()) if isinstance(block, Chart) else block for block in section.blocks]


def block(page: Page, start: str) -> Chart | Table | Paragraph:
    (found,) = [block for section in page.sections for block in section.blocks if block.title.startswith(start)]
    return found


class Elements(HTMLParser):
    """Tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def all_jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write([runs.forest(), runs.grid_search(), runs.asian_option()], path)
    return path


def test_one_page_has_a_section_for_each_job_and_for_the_cluster(all_jobs: Path) -> None:
    elements = Elements(all_jobs.read_text(encoding="utf-8"))
    sections = [attributes["id"] for attributes in elements.attributes("section")]
    assert sections == ["forest", "grid-search", "asian-option", "cluster", "details"]
    assert len([each for each in elements.attributes("div") if each.get("class") == "plot"]) == 14


def test_a_page_refers_to_no_other_place(all_jobs: Path) -> None:
    elements = Elements(all_jobs.read_text(encoding="utf-8"))
    places = [attributes.get(name) or "" for _tag, attributes in elements.found for name in ("src", "href")]
    assert [place for place in places if place and not place.startswith(("#", "data:"))] == []


def test_a_page_stays_small(all_jobs: Path) -> None:
    assert all_jobs.stat().st_size < 2_000_000


def test_nothing_of_bokeh_complains(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    report.write([runs.forest(1), runs.asian_option(10)], tmp_path / "report.html")
    assert caplog.messages == []


def test_a_report_is_as_readable_as_any_new_file_and_alone_in_its_folder(all_jobs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    assert all_jobs.stat().st_mode == other.stat().st_mode
    assert list(all_jobs.parent.iterdir()) == [all_jobs]


def test_a_report_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        report.write([runs.forest(1, spans=[])], path)
    assert [(each.name, each.read_text(encoding="utf-8")) for each in tmp_path.iterdir()] == [("report.html", "old")]


def test_names_that_users_give_are_text(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=//example.org/x>"
    record = runs.forest(
        3,
        workers=[Worker(evil, evil, 1, 1)],
        spans=[Span(evil, 1, evil, "compute", 0, 1)],
        versions={evil: evil},
        address=evil,
        stopped=RuntimeError(evil),
    )
    record.parameters[evil] = evil
    report.write([record], tmp_path / "report.html")
    elements = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert elements.attributes("img") == []
    (nonce,) = {attributes.get("nonce") for attributes in elements.attributes("script")}
    assert nonce


@pytest.mark.parametrize("opening", ["$$", "\\[", "\\("])
def test_no_label_is_taken_for_tex(opening: str) -> None:
    assert opening not in text.label(f"{opening}x^2")


def test_a_stopped_run_says_so_and_shows_what_is_finished() -> None:
    page = pages.of_records([runs.forest(stopped=KeyboardInterrupt(), spans=[])])
    assert not page.finished
    assert page.status == "Stopped early. Random forest: interrupted from the keyboard"
    (section, *_others) = page.sections
    assert "from the part that was finished" in section.warning
    assert block(page, "From")
    assert block(page, "Timeline")


def test_a_run_that_finished_nothing_has_a_page() -> None:
    page = pages.of_records([runs.record("forest", {}, None, stopped=RuntimeError("no\nluck"), spans=[])])
    assert page.status.endswith("no luck")
    assert "Nothing was finished" in texts(page)


def test_a_run_of_all_leads_with_the_first_figure_of_each_job() -> None:
    page = pages.of_records([runs.forest(), runs.asian_option()])
    assert [number.what.split(":")[0] for number in page.numbers] == ["of work", "Random forest", "Asian option"]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (None, heat_map.Axes("kernel", "C", "shrinking", ())),
        ({"C": [1, 2], "gamma": [1, 2, 3]}, heat_map.Axes(None, "gamma", "C", ())),
        ({"kernel": ["rbf", "poly"]}, heat_map.Axes(None, "kernel", None, ())),
        ({"kernel": ["rbf", "poly"], "C": [1, 2, 3]}, heat_map.Axes(None, "C", "kernel", ())),
        (
            {"kernel": ["rbf", "poly"], "C": [1, 2, 3], "gamma": [1, 2, 3, 4], "degree": [2, 3], "tol": [1]},
            heat_map.Axes("kernel", "gamma", "C", ("degree",)),
        ),
    ],
)
def test_the_longest_lists_of_a_grid_are_the_axes(
    grid: dict[str, list[object]] | None, expected: heat_map.Axes
) -> None:
    results = runs.grid_search(grid).result.cv_results
    assert heat_map.choose_axes(heat_map.values_of(results)) == expected


@pytest.mark.parametrize(
    ("grid", "failed"),
    [
        ({"C": [1]}, ()),
        ({"C": [1]}, (0,)),
        ({"C": [1, 10]}, (0, 1)),
        ({"C": [10, 1, 0.1]}, (1,)),
        ({"gamma": ["scale", "auto", 0.1]}, ()),
        ({"class_weight": [None, "balanced", {0: 1, 1: 3}], "shrinking": [True, False]}, ()),
        ({"C": list(range(1, 200)), "gamma": list(np.geomspace(1e-9, 1, 40))}, (7,)),
    ],
)
def test_any_grid_can_be_drawn(grid: dict[str, list[object]], failed: tuple[int, ...], tmp_path: Path) -> None:
    report.write([runs.grid_search(grid, failed=failed)], tmp_path / "report.html")


def test_a_heat_map_shows_the_best_over_what_it_can_not_show() -> None:
    grid = {"C": [1, 2, 3], "gamma": [1, 2, 3], "degree": [2, 3]}
    results = runs.grid_search(grid, failed=(0,)).result.cv_results
    chart = heat_map.chart(results)
    assert chart
    assert "best over the values of degree" in chart.note
    assert "1 candidate could not be fitted" in chart.note
    (panel,) = chart.panels
    cells = panel.plot.renderers[0].data_source.data
    best = results.assign(C=[p["C"] for p in results["params"]], gamma=[p["gamma"] for p in results["params"]])
    assert sorted(cells["score"]) == sorted(f"{x:.6f}" for x in best.groupby(["C", "gamma"])["mean_test_score"].max())


def test_bad_candidates_leave_shades_to_the_good_ones() -> None:
    results = runs.grid_search({"C": [1, 2, 3, 4, 5]}).result.cv_results.assign(
        mean_test_score=[0.1, 0.8, 0.81, 0.82, 0.83]
    )
    chart = heat_map.chart(results)
    assert chart
    assert chart.scale
    assert chart.scale.low == "0.750 and less"
    colours = chart.panels[0].plot.renderers[0].data_source.data["colour"]
    assert len(set(colours)) == 5


def test_numbers_of_a_grid_are_in_order_and_words_as_given() -> None:
    results = runs.grid_search({"C": [10, 0.5, 1], "gamma": ["scale", "auto"]}).result.cv_results
    assert heat_map.values_of(results) == {"C": [0.5, 1, 10], "gamma": ["scale", "auto"]}


def test_workers_that_did_not_answer_are_named() -> None:
    workers = [*runs.WORKERS, Worker("1", "", 2, 2**30, responding=False)]
    record = runs.forest(workers=workers)
    assert [worker["responding"] for worker in to_json([record])["cluster"]["workers"]] == [True, True, False]
    assert cluster.in_words(workers) == "3 workers with 7 threads, aarch64 and x86_64, 1 of them did not answer"
    (table,) = cluster.section(workers).blocks
    assert table.rows[-1][:2] == ["worker 1", "did not answer"]


def test_many_spans_become_few_bars_that_cover_them() -> None:
    stream = np.random.default_rng(0)
    starts = stream.uniform(0, 100, 30_000)
    spans = [Span(f"pi-{n % 30}", n % 4, f"task{n % 2}", "compute", s, s + 0.01) for n, s in enumerate(starts)]
    bars = lanes.bars(spans)
    assert len(bars) <= lanes.MAX_BARS
    assert sum(bar.spans for bar in bars) == len(spans)
    assert sum(bar.busy for bar in bars) == pytest.approx(300)


@given(
    workers=st.integers(1, 3000),
    threads=st.integers(1, 8),
    kinds=st.integers(1, 5),
    rounds=st.integers(1, 3),
    jitter=st.floats(0, 5),
)
@example(workers=1001, threads=1, kinds=4, rounds=1, jitter=0)
@example(workers=251, threads=4, kinds=4, rounds=2, jitter=1)
@example(workers=3000, threads=1, kinds=2, rounds=2, jitter=0.5)
@example(workers=1, threads=8, kinds=1, rounds=3, jitter=0)
@settings(max_examples=6)
def test_any_number_of_lanes_and_kinds_becomes_few_bars(
    workers: int, threads: int, kinds: int, rounds: int, jitter: float
) -> None:
    threads = min(threads, max(1, 12_000 // (workers * kinds * rounds)))
    steps = [(w, t, k, r) for w in range(workers) for t in range(threads) for r in range(rounds) for k in range(kinds)]
    spans = []
    for worker, thread, kind, number in steps:
        start = number * 10 + kind * 2 + jitter * (worker % 7)
        spans.append(Span(f"pi-{worker}", thread, f"task{kind}", "compute", start, start + 1))
    bars = lanes.bars(spans)
    assert len(bars) <= lanes.MAX_BARS
    assert [bar.start for bar in bars] == sorted(bar.start for bar in bars)
    if workers * threads <= lanes.MAX_BARS:
        assert sum(bar.spans for bar in bars) == len(spans)
        assert sum(bar.busy for bar in bars) == pytest.approx(len(spans))


def test_a_room_of_a_thousand_workers_has_a_page(tmp_path: Path) -> None:
    workers = [Worker(f"pi-{number}", "aarch64", 1, 2**30) for number in range(1001)]
    spans = [Span(each.name, 1, f"task{kind}", "compute", kind, kind + 1) for each in workers for kind in range(5)]
    report.write([runs.forest(3, workers=workers, spans=spans)], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_steps_that_are_not_drawn_are_counted() -> None:
    workers = [Worker(f"pi-{number}", "aarch64", 1, 2**30) for number in range(lanes.MAX_BARS + 3)]
    spans = [Span(each.name, 1, "task", "compute", 0, 1 + number) for number, each in enumerate(workers)]
    chart = timeline.block(runs.forest(3, workers=workers, spans=spans, seconds=5000.0))
    assert isinstance(chart, Chart)
    assert "3 steps on the threads that did least are left out" in chart.note


def test_few_spans_are_drawn_one_by_one() -> None:
    assert [bar.kind for bar in lanes.bars(runs.SPANS)] == ["transfer", "grow trees", "predict"]


def test_threads_that_replaced_others_share_their_lane() -> None:
    spans = [Span("a", thread, "x", "compute", start, start + 1) for thread, start in [(7, 0), (8, 0.5), (9, 2)]]
    assert [bar.lane for bar in lanes.bars(spans)] == [0, 1, 0]


def test_busy_shares_count_all_threads() -> None:
    shares = lanes.busy_shares(runs.SPANS, runs.WORKERS, 5.0)
    assert shares["0"]["grow trees"] == pytest.approx(3.8 / 5)
    assert shares["pi-3"]["predict"] == pytest.approx(2 / 5 / 4)


def test_a_chunk_that_makes_room_for_others_keeps_no_worker_busy_twice() -> None:
    spans = [Span("0", 1, "ours", "compute", 0, 5), Span("0", 2, "theirs", "compute", 1, 4)]
    shares = lanes.busy_shares(spans, runs.WORKERS, 5.0)
    assert shares["0"] == pytest.approx({"ours": 5 / 8, "theirs": 3 / 8})


def test_a_worker_that_joined_later_has_a_row() -> None:
    late = Span("late", 1, "predict_rows", "compute", 1, 2)
    chart = timeline.block(runs.forest(spans=[*runs.SPANS, late]))
    assert isinstance(chart, Chart)
    assert chart.title.startswith("The 3 workers")


def test_figures_of_the_poster_are_compared_at_its_size_alone() -> None:
    assert "can't be compared" in block(pages.of_records([runs.forest(50)]), "Beside").text
    table = block(pages.of_records([runs.forest(8000)]), "8,000 trees")
    assert table.rows[-1] == ["this run: 2 workers, aarch64 and x86_64", "5", "5.00 s"]


def test_the_posters_search_is_compared_figure_by_figure() -> None:
    record = runs.grid_search()
    record.parameters["samples"] = 20_000
    table = block(pages.of_records([record]), "1 of the poster's 4")
    assert table.rows[1] == ["its first five predictions", "0 1 0 1 1", "0 1 0 1 1"]


@pytest.mark.parametrize(("paths", "expected"), [(5000, "numbers of paths differ"), (10_000, "hardware differs")])
def test_the_posters_option_is_compared(paths: int, expected: str) -> None:
    assert expected in block(pages.of_records([runs.asian_option(paths)]), "Both of the poster's").note


def test_another_option_is_not_compared() -> None:
    assert "other parameters" in texts(pages.of_records([runs.asian_option(strike=90.0)]))


@pytest.mark.parametrize("option", [{"volatility": 0.0}, {"strike": 1e6}, {"strike": 0.0}, {"paths": 2}, {"days": 2}])
def test_an_odd_option_has_a_page(option: dict[str, float], tmp_path: Path) -> None:
    report.write([runs.asian_option(**option)], tmp_path / "report.html")


def test_a_comparison_says_when_the_cluster_does_not_help(tmp_path: Path) -> None:
    ways = [Way("serial", 1.0), Way("threads", 0.6), Way("cluster", 2.5), Way("one task a path", 900.0, 0.001)]
    compared = Comparison("asian-option", {}, datetime(2026, 3, 14, tzinfo=UTC), ways, runs.WORKERS, "tcp://x", {})
    page = pages.of_comparison(compared)
    assert "does not help" in page.sections[0].summary
    assert "time scaled" in texts(page)
    assert page.numbers[0].text == "0.4×"
    report.write_comparison(compared, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 0


def test_a_comparison_draws_both_ways_of_the_cluster_on_one_scale(tmp_path: Path) -> None:
    batches = [
        Span("0", 11, "batch_of_parallel_build_trees_7_calls", "compute", 0.0, 2.0),
        Span("pi-3", 21, "mixed_batch_of__parallel_build_trees_3_calls", "compute", 0.0, 8.0),
    ]
    ways = [Way("serial", 9.0), Way("threads", 9.0), Way("processes", 9.0)]
    ways += [Way("cluster", 4.0, spans=runs.SPANS), Way("joblib's dask", 8.0, spans=batches)]
    compared = Comparison("forest", {}, datetime(2026, 3, 14, tzinfo=UTC), ways, runs.WORKERS, "tcp://x", {})
    (chart,) = [block for block in pages.of_comparison(compared).sections[0].blocks if "computed for" in block.title]
    # Of five threads, two had something to do: for 3.8 s and 2 s of 4; and for 2 s and 8 s of 8.
    assert chart.title == (
        "Workers computed for 29% of 4.00 s with the balanced queue and 25% of 8.00 s with joblib's Dask backend"
    )
    assert [name for name, _colour in chart.legend] == ["grow trees", "predict", "moving data (low bars)"]
    assert {panel.plot.x_range.end for panel in chart.panels} == {8.0}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.466, "0.47 s"), (43.61, "43.6 s"), (59.97, "1 min 00 s"), (169, "2 min 49 s"), (3900, "1 h 05 min")],
)
def test_durations_read_well(seconds: float, expected: str) -> None:
    assert text.seconds(seconds) == expected


@pytest.mark.parametrize(("size", "expected"), [(0, "no limit"), (2**29, "512 MiB"), (int(3.7 * 2**30), "3.7 GiB")])
def test_sizes_read_well(size: int, expected: str) -> None:
    assert text.memory(size) == expected


def test_a_long_name_keeps_its_ends() -> None:
    assert text.shorten("raspberry-pi-in-the-third-room-3", 16) == "raspberr…-room-3"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tritoncluster-worker-1", "tritoncluster-worker-12"], ["worker-1", "worker-12"]),
        (["tritoncluster-worker-1"], ["worker-1"]),
        (["0", "1"], ["worker 0", "worker 1"]),
        (["pi-1", "pi-11", "desktop"], ["pi-1", "pi-11", "desktop"]),
        (["physics-lab-pi-1", "physics-lab-desktop"], ["lab-pi-1", "lab-desktop"]),
        (["tls://10.0.0.1:8801", "tls://10.0.0.1:8802"], ["10.0.0.1:8801", "10.0.0.1:8802"]),
        (["a-machine-of-the-first-room", "another-one"], ["a-machi…t-room", "another-one"]),
        ([], []),
    ],
)
def test_workers_are_called_what_tells_them_apart(names: list[str], expected: list[str]) -> None:
    assert list(text.labels(names).values()) == expected


def test_kinds_of_tasks_do_not_share_a_colour_as_long_as_there_are_some() -> None:
    tasks = ["fit_and_score", "fit", "predict_rows", "take_in", "stop", "tidy", "count", "sort"]
    spans = [Span("0", 1, task, "compute", place, place + 1 - place / 100) for place, task in enumerate(tasks)]
    chart = timeline.block(runs.forest(spans=[*spans, Span("0", 1, "fit", "transfer", 0, 0.1)]))
    assert isinstance(chart, Chart)
    colours = [colour for _name, colour in chart.legend]
    assert len(set(colours)) == len(colours) == 8
    assert ("count and sort", style.MUTED) in chart.legend


def test_an_option_of_the_command_line_is_not_broken() -> None:
    assert options_whole("it is --trees 8000, <b> a--b") == (
        'it is <span class="option">--trees 8000</span>, &lt;b&gt; a--b'
    )


def test_who_did_how_much_is_a_table() -> None:
    summary = Summary("parallel_build_trees", seconds=4.0, work=50.0)
    summary.shares["0"] = Share(1, [(0.0, None)], items=40, chunks=8, repeats=0, work=40.0, busy=3.9)
    summary.shares["pi-3"] = Share(4, [(0.0, None)], items=12, chunks=6, repeats=2, lost=3, work=12.0, busy=15.0)
    summary.shares["late"] = Share(1)
    (table,) = balance.blocks(runs.forest(balance=[summary, Summary("predict_rows", seconds=0.01, work=5.0)]))
    assert table.title == "Who did how much, grow trees: 93% of the workers' summed rates"
    assert list(table.rows) == [
        ["worker 0", "40", "80%", "10.3", "8", "0", "0"],
        ["late", "0", "0%", "–", "0", "0", "0"],
        ["pi-3", "12", "20%", "3.2", "6", "2", "3"],
    ]


def test_who_else_used_the_workers_is_a_table_and_counts_for_nothing() -> None:
    summary = Summary("parallel_build_trees", seconds=4.0, work=50.0, weight=2.0)
    said = {"run": "r1", "weight": 1.0, "work": "simulate_blocks", "who": "ada@desk"}
    for name, seconds in (("0", 1.5), ("1", 0.5)):
        beside = {f"tcp://10.0.0.{name}:1": [(said, seconds), ({"run": ""}, 0.5)]}
        summary.shares[name] = Share(1, [(0.0, None)], items=25, work=25.0, busy=2.0, beside=beside)
    _, sharing = balance.blocks(runs.forest(balance=[summary]))
    assert sharing.title == "This run had 57% of the workers"
    assert [row[1:] for row in sharing.rows] == [
        ["2", "4.00 s", "57%"],
        ["1", "2.00 s", "29%"],
        ["1 a client", "1.00 s", "14%"],
    ]
    assert sharing.rows[1][0].endswith(", ada@desk")
    # Of 8 s, others had 3.
    assert summary.efficiency == pytest.approx(50 / 12.5 / 5)


def test_balance_is_in_the_result() -> None:
    summary = Summary("parallel_build_trees", seconds=4.0, work=50.0)
    summary.shares["0"] = Share(1, [(0.0, None)], items=50, chunks=8, repeats=0, work=50.0, busy=3.9)
    (part,) = to_json([runs.forest(balance=[summary])])["balance"]
    assert part["job"] == "forest"
    assert part["workers"][0]["rate"] == pytest.approx(50 / 3.9)
    assert part["efficiency"] == pytest.approx(3.9 / 4)
