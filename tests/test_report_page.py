"""Reports of real, small runs as a browser shows them."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import COLOURS, PICTURES, Browser, chromium
from selenium.webdriver import ActionChains

from tritoncluster import report
from tritoncluster.balance import Share, Summary
from tritoncluster.cluster import connect
from tritoncluster.compare import compare
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.record import Record, Span, Worker, measure

pytestmark = pytest.mark.pages

#: Widths of a laptop and of a phone.
WIDTHS = [1280, 400]
#: What a worker must not be able to do by its name: run something, load something, or look like a formula.
EVIL = "$$x^2$$</script><img src='https://example.org/x.png' onerror='window.harmed = 1'>"
RIGHT_EDGES = """
const root = document.documentElement;
const elements = [...document.querySelectorAll(".plot, h1, h2, h3, p, .numbers div")];
return [root.clientWidth, root.scrollWidth, ...elements.map((element) => element.getBoundingClientRect().right)];
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as window:
        yield window


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Record]:
    with connect(workers=2) as client:
        jobs = [Forest(trees=100), GridSearch(samples=200), AsianOption(paths=20_000)]
        records = [measure(client, job) for job in jobs]
        report.write_comparison(compare(client, Forest(trees=20)), folder / "comparison.html")
    report.write(records, folder / "report.html")
    return records


@pytest.fixture(scope="module")
def evil(folder: Path, records: list[Record]) -> Path:
    spans = [Span(EVIL, n, EVIL, action, 0.0, 1.0) for n in range(4) for action in ("compute", "transfer")]
    workers = [Worker(EVIL, EVIL, 4, 2**30)]
    record = replace(records[0], seconds=1.0, workers=workers, spans=spans, stopped=RuntimeError(EVIL))
    report.write([record], folder / "evil.html")
    return folder / "evil.html"


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_all_plots_are_drawn_without_complaint_or_request(
    browser: Browser, folder: Path, name: str, width: int, *, dark: bool
) -> None:
    page = folder / f"{name}.html"
    browser.open(page, width=width, dark=dark)
    colours = browser.run(COLOURS)
    assert len(colours) == {"report": 14, "comparison": 3}[name]
    assert min(colours) > 1
    assert browser.complaints() == []
    assert browser.requests() == {page.as_uri()}
    # Nothing is cut off or has to be scrolled to sideways.
    room, *edges = browser.run(RIGHT_EDGES)
    assert max(edges) <= room


def test_no_table_is_scrolled_sideways_on_a_laptop(browser: Browser, folder: Path, records: list[Record]) -> None:
    names = [f"tritoncluster-worker-{number}" for number in range(1, 5)]
    shares = {name: Share(4, [(0.0, None)], items=25_012, repeats=212, lost=13, work=2e4, busy=15.2) for name in names}
    balance = [Summary("parallel_build_trees", seconds=4.0, work=1e5, shares=shares)]
    workers = [Worker(name, "aarch64", 4, 2**31) for name in names]
    spans = [Span(name, 1, "parallel_build_trees", "compute", 0.0, 1.0) for name in names]
    page = folder / "names.html"
    report.write([replace(records[0], workers=workers, spans=spans, balance=balance), *records[1:]], page)
    browser.open(page)
    scrolled = "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert browser.run(scrolled) == 0
    # An option's name is on one line.
    lines = "return [...document.querySelectorAll('.option')].map((each) => each.getClientRects().length)"
    assert set(browser.run(lines)) == {1}


def test_each_job_has_its_section(browser: Browser, folder: Path, records: list[Record]) -> None:
    browser.open(folder / "report.html")
    headings = browser.run("return [...document.querySelectorAll('section h2')].map((each) => each.textContent)")
    assert headings == ["Random forest", "Grid search", "Asian option", "The cluster", "Parameters and versions"]
    shown = browser.run("return document.body.innerText")
    assert f"{records[0].result.test_accuracy:.2%}" in shown
    assert f"{records[1].result.score:.5f}" in shown
    assert f"{records[2].result.estimate.mean:.4f}" in shown


@pytest.mark.usefixtures("records")
def test_plots_follow_when_light_turns_dark(browser: Browser, folder: Path) -> None:
    browser.open(folder / "report.html")
    light = browser.run(PICTURES)
    browser.set_dark(dark=True)
    browser.run("return new Promise((done) => setTimeout(done, 1000))")
    assert not set(light) & set(browser.run(PICTURES))


def test_names_stay_text(browser: Browser, evil: Path) -> None:
    browser.open(evil, height=2000)
    figure = browser.run(
        "const place = [...document.querySelectorAll('.timeline .plot')][0]; place.scrollIntoView({block: 'center',"
        "behavior: 'instant'}); return place.querySelector('.bk-Figure');"
    )
    ActionChains(browser.driver).move_to_element(figure).perform()
    tooltip = "return document.querySelector('.bk-Tooltip')?.shadowRoot.textContent"
    browser.wait_for(tooltip)
    assert re.sub(r"\s+", " ", EVIL) in re.sub(r"\s+", " ", browser.run(tooltip))
    assert EVIL in browser.run("return document.querySelector('#cluster td').textContent")
    assert browser.run("return window.harmed") is None
    assert browser.complaints() == []
    assert browser.requests() == {evil.as_uri()}
