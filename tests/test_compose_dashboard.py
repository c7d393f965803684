"""Dashboard and metrics, through the gateway."""

import re
from collections.abc import Iterator

import pytest
from browser import Browser, chromium
from compose_project import Project, finish, wait_for
from distributed.dashboard.scheduler import applications

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as window:
        # What a person does who clicks the warning away: the certificate is its own authority.
        window.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        yield window


@pytest.fixture
def idle(project: Project) -> Project:
    """The cluster when all its jobs have ended, also the one that `docker compose up` runs."""

    def ended() -> bool:
        states = {each["State"]["Status"] for each in project.inspect("demonstration")}
        return states == {"exited"} and project.counts().get("tasks") == 0

    wait_for(ended, 600, project.log)
    return project


def test_nothing_without_the_password(project: Project) -> None:
    paths = ["/", "/status", "/metrics", "/health", "/json/counts.json"]
    for path in [*paths, *(f"/workers/{name}/metrics" for name in project.names("worker"))]:
        assert project.get(path, password=None)[0] == 401
        assert project.get(path, password="wrong")[0] == 401


def test_the_password_stays(project: Project) -> None:
    assert re.fullmatch(r"[a-z2-9]{20}", project.password())
    project.compose("run", "--rm", "-T", "setup", "prepare")
    assert project.get("/status")[0] == 200


def test_all_pages_of_the_scheduler(idle: Project) -> None:
    others = [
        "/",
        "/health",
        "/info/main/workers.html",
        "/info/main/logs.html",
        "/json/counts.json",
        "/individual-plots.json",
    ]
    assert {"/status", "/workers", "/tasks", "/graph", "/system", "/profile"} <= applications.keys()
    answers = {path: idle.get(path)[0] for path in [*applications, *others]}
    assert {path: status for path, status in answers.items() if status != 200} == {}


@pytest.mark.slow
def test_the_pages_of_tasks_while_a_job_runs(idle: Project) -> None:
    process = idle.start_workload("run", "forest", "--trees", "4000", "--output", "results/watched")
    idle.wait_until_busy()
    answers = {path: idle.get(path)[0] for path in ("/groups", "/graph", "/tasks", "/status", "/individual-groups")}
    assert process.poll() is None, "the job ended before all pages were there"
    done = finish(process)
    assert answers == dict.fromkeys(answers, 200), idle.log("scheduler")
    assert done.returncode == 0, done.stderr


def test_metrics(idle: Project) -> None:
    status, body = idle.get("/metrics")
    assert status == 200
    assert re.search(r'^dask_scheduler_workers\{state="idle"\} 2', body, re.MULTILINE), body
    for name in idle.names("worker"):
        status, body = idle.get(f"/workers/{name}/metrics")
        assert status == 200
        assert "dask_worker_tasks" in body
        assert idle.get(f"/workers/{name}/health")[0] == 404


#: Every column of every table and plot of the page that has this name.
COLUMNS = """
const found = [];
for (const document of Bokeh.documents)
  for (const model of document._all_models.values())
    if (model.data !== undefined) {
      const column = model.data instanceof Map ? model.data.get(arguments[0]) : model.data[arguments[0]];
      if (column !== undefined)
        found.push(Array.from(column));
    }
return found;
"""


def test_the_workers_in_a_browser(project: Project, browser: Browser) -> None:
    address = project.dashboard.replace("https://", f"https://client:{project.password()}@")
    browser.driver.get(f"{address}/workers")
    browser.wait_for("return window.Bokeh !== undefined && Bokeh.documents.length > 0")

    def column(name: str) -> set[str]:
        return {str(value) for values in browser.run(COLUMNS, name) for value in values}

    wait_for(lambda: set(project.names("worker")) <= column("name"), 30, lambda: str(column("name")))
    # The page moves without being loaded again: its websocket passes the gateway.
    before = column("memory")
    process = project.start_workload("run", "forest", "--trees", "300", "--output", "results/moving")
    wait_for(lambda: column("memory") != before, 30, "the table stands still")
    done = finish(process)
    assert done.returncode == 0, done.stderr


def test_a_browser_without_the_password_sees_nothing(project: Project, browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.driver.get(project.dashboard.replace("localhost", "127.0.0.1") + "/status")
    assert "Bokeh" not in browser.driver.page_source
