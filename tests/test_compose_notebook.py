"""The notebook, through the gateway."""

import asyncio
import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.cookies import SimpleCookie
from typing import Any
from uuid import uuid4

import pytest
from browser import Browser, chromium
from compose_project import JOBS, Project, assert_same, complaint, finish, result, wait_for
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import (
    element_to_be_clickable,
    frame_to_be_available_and_switch_to_it,
)
from selenium.webdriver.support.wait import WebDriverWait
from test_compose_jobs_service import described, left_alone
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: More than the container may use, and written to.
ALL_MEMORY = "taken = [bytearray(b'x' * 2**26) for _ in range(64)]"
PANE = ".dask-DaskDashboard-widget iframe"
#: The last task of a plot of tasks in a page of Dask's.
MOMENTS = """
return Bokeh.documents.flatMap((document) => [...document._all_models.values()])
  .filter((model) => model.data !== undefined)
  .map((model) => model.data instanceof Map ? model.data.get("start") : model.data.start)
  .filter((column) => column !== undefined && column.length > 0)
  .map((column) => Math.max(...column)).join();
"""


class Notebook:
    """A person's server, and how programs see it."""

    def __init__(self, project: Project) -> None:
        self.project, self.address = project, f"{project.dashboard}/lab"
        # The project then knows whom to trust.
        project.get("/lab/api")
        self.headers = {"Authorization": "Basic " + base64.b64encode(f"client:{project.password()}".encode()).decode()}
        cookie = SimpleCookie(self.ask("/lab")[2].get_all("Set-Cookie")[-1])
        self.token = {"Cookie": f"_xsrf={cookie['_xsrf'].value}", "X-XSRFToken": cookie["_xsrf"].value}

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
        """Give status, body and headers of an answer; without the token that only pages of its own know."""
        request = urllib.request.Request(self.address + path, method=method, headers=self.headers | headers)
        try:
            with urllib.request.urlopen(request, context=self.project._trust, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    async def execute(self, code: str) -> list[str]:
        """Run code in a new kernel; give the kernel's states until it has answered, or was started anew."""
        _, body, _ = self.ask("/api/kernels", "POST", **self.token)
        kernel, session = json.loads(body)["id"], uuid4().hex
        address = f"{self.address.replace('https', 'wss')}/api/kernels/{kernel}/channels"
        context = self.project._trust
        connection = await websocket_connect(HTTPRequest(address, headers=self.headers, ssl_options=context))
        header = {
            "msg_id": uuid4().hex,
            "msg_type": "execute_request",
            "session": session,
            "username": "",
            "version": "5",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await connection.write_message(json.dumps(message))
        states = []
        while not {"restarting", "ok", "error"} & set(states):
            said = json.loads(await asyncio.wait_for(connection.read_message(), 120) or "{}")
            told = said.get("content", {})
            states.append(told.get("execution_state") or told.get("status") or "")
        connection.close()
        self.ask(f"/api/kernels/{kernel}", "DELETE", **self.token)
        return states


@pytest.fixture(scope="module")
def notebook(project: Project) -> Iterator[Notebook]:
    """The shared cluster with a notebook."""
    project.compose("--profile", "notebook", "up", "--detach", "--no-build", "--no-deps", "notebook")
    wait_for(lambda: project.get("/lab/api")[0] == 200, 120, lambda: project.log("notebook"))
    yield Notebook(project)
    project.compose("--profile", "notebook", "rm", "--stop", "--force", "notebook")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as window:
        window.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        yield window


def test_the_password_lets_in_and_nothing_else_does(notebook: Notebook) -> None:
    project = notebook.project
    for path in ("/lab/lab", "/lab/api", "/lab/api/contents", "/lab/dashboard/status"):
        assert project.get(path, password=None)[0] == 401
        assert project.get(path, password="wrong")[0] == 401
        assert project.get(path)[0] == 200
        assert notebook.ask(path.removeprefix("/lab"), Origin="https://evil.example")[0] == 403
    # A browser sends a stored password from any page; the token in a page of its own, other pages don't know.
    assert notebook.ask("/api/kernels", "POST")[0] == 403
    assert notebook.ask("/api/kernels", "POST", Origin="https://evil.example", **notebook.token)[0] == 403
    assert notebook.ask("/dashboard/status", "POST", **notebook.token)[0] == 403


def test_a_websocket_of_another_page_is_refused(notebook: Notebook) -> None:
    _, body, _ = notebook.ask("/api/kernels", "POST", **notebook.token)
    channels = f"/api/kernels/{json.loads(body)['id']}/channels"
    key = base64.b64encode(b"0123456789abcdef").decode()
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    assert notebook.ask(channels, Origin="https://evil.example", **handshake)[0] == 403
    assert notebook.ask(channels, Origin=notebook.project.dashboard, **handshake)[0] == 101
    notebook.ask(channels.removesuffix("/channels"), "DELETE", **notebook.token)


def test_whoever_has_no_server_is_told(notebook: Notebook) -> None:
    project = notebook.project
    project.write_settings(CLUSTER_PEOPLE="ann")
    try:
        project.compose("run", "--rm", "-T", "--no-deps", "people")
        password = project.password("ann")
        status, body = project.get("/lab/lab", password, user="ann")
        assert status == 502
        assert "no notebook server of yours" in body
        # Nor does a path lead to somebody else's.
        for path in ("/lab/../client/lab/api", "/lab/%2e%2e/client/lab/api", "/lab/client/api"):
            assert project.get(path, password, user="ann")[0] != 200
    finally:
        project.write_settings(CLUSTER_PEOPLE="")
        project.compose("run", "--rm", "-T", "--no-deps", "people")


def test_the_first_notebook_in_a_browser(notebook: Notebook, browser: Browser) -> None:
    project, driver = notebook.project, browser.driver

    def click(selector: str) -> None:
        by = By.XPATH if selector.startswith("//") else By.CSS_SELECTOR
        WebDriverWait(driver, 120).until(element_to_be_clickable((by, selector))).click()

    def stored() -> str:
        return notebook.ask("/api/contents/first-notebook.ipynb")[1].decode()

    def state() -> str | None:
        """Give what the notebook's kernel does, if it has one; a page that asks for one gets what it proposes."""
        for button in driver.find_elements(By.CSS_SELECTOR, "dialog.jp-Dialog .jp-mod-accept"):
            with suppress(WebDriverException):
                button.click()
        sessions = json.loads(notebook.ask("/api/sessions")[1])
        return sessions[0]["kernel"]["execution_state"] if sessions else None

    driver.set_window_size(1600, 1000)
    # The browser knows the password from then on; pages whose address has one can't ask for anything.
    driver.get(project.dashboard.replace("https://", f"https://client:{project.password()}@") + "/health")
    driver.get(f"{notebook.address}/lab/tree/first-notebook.ipynb?reset")

    def run_all() -> bool:
        # The page is drawn anew while it loads, and a menu that was opened too early is closed.
        click("//div[contains(@class, 'lm-MenuBar-itemLabel') and .='Run']")
        item = "//div[contains(@class, 'lm-Menu-itemLabel') and .='Run All Cells']"
        try:
            WebDriverWait(driver, 5).until(element_to_be_clickable((By.XPATH, item))).click()
        except WebDriverException:
            ActionChains(driver).send_keys(Keys.ESCAPE).perform()
            return False
        return True

    wait_for(lambda: state() == "idle", 240, "no kernel starts")
    wait_for(run_all, 120, "the menu does not stay open")
    wait_for(lambda: state() == "busy", 60, "the kernel does nothing")
    wait_for(lambda: state() == "idle", 280, "the notebook does not come to its end")
    # Once: while it is being saved, another time would meet a file that has changed.
    click(".jp-NotebookPanel [data-jp-item-name='save']")
    # The last cell names those that took part.
    wait_for(lambda: all(f"{name}\\n" in stored() for name in project.names("worker")), 60, stored)
    cells = json.loads(stored())["content"]["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    # A plot of the cluster that moves, with nothing typed.
    click("li[data-id='dask-dashboard-launcher']")
    click("button[value='Task Stream']")
    WebDriverWait(driver, 120).until(frame_to_be_available_and_switch_to_it((By.CSS_SELECTOR, PANE)))
    browser.wait_for("return window.Bokeh !== undefined && Bokeh.documents.length > 0", 120)
    before = browser.run(MOMENTS)
    process = project.start_workload("run", "forest", "--trees", "300", "--output", "results/in-a-pane")
    wait_for(lambda: browser.run(MOMENTS) != before, 120, "the plot stands still")
    done = finish(process)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_kernel_that_takes_all_memory_leaves_others_alone(
    notebook: Notebook, embedded: dict[str, dict[str, Any]]
) -> None:
    process = notebook.project.start_workload("run", *JOBS["forest"], "--json")
    states = asyncio.run(notebook.execute(ALL_MEMORY))
    assert states[-1] == "restarting", states
    assert_same("forest", result(finish(process)), embedded["forest"])
    # The person's server is still there, and so is everything else.
    assert asyncio.run(notebook.execute("1 + 1"))[-1] == "ok"
    assert notebook.project.is_healthy(scheduler=1, gateway=1, jobs=1, notebook=1, worker=2)


def test_a_notebook_is_left_alone(project: Project) -> None:
    source = [
        "import os",
        "from distributed import Client",
        "print(Client().submit(sum, [40, 2]).result(), os.getcwd())",
    ]
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    content = {"cells": [cell | {"source": "\n".join(source)}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (project.scripts / "left.ipynb").write_text(json.dumps(content))
    job = left_alone(project, "submit", "--detach", "left.ipynb")
    waited = project.workload("jobs", "wait", job)
    assert waited.returncode == 0, waited.stderr + project.workload("jobs", "logs", job).stdout
    assert described(project, job)["progress"] == {"stage": "left.ipynb: cells", "done": 1, "total": 1}
    said = f"42 /work/jobs/{job}/files"
    assert said in project.get(f"/jobs/{job}/report.html")[1]
    assert project.workload("jobs", "fetch", job, "--output", f"results/{job}").returncode == 0
    fetched = json.loads((project.results / job / "left.ipynb").read_text())
    assert fetched["cells"][0]["outputs"][0]["text"] == [f"{said}\n"]
    # Who waits for a client has none to run one.
    done = project.workload("submit", "left.ipynb")
    assert complaint(done, 2).startswith(
        "tritoncluster: what runs notebooks is not installed here: use the notebook's image"
    )
