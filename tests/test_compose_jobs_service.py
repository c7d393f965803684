"""Jobs that are left alone, in containers: through the gateway, with certificates and without, and in a browser."""

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium
from compose_project import JOBS, Project, result

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: Takes memory in one go, for which nobody who looks once a second is fast enough.
HOG = "import time\nheld = [bytes(1) * 2**28 for _ in range(40)]\ntime.sleep(600)\n"
#: What a job must not be able to do to the page by what it prints, or by what it is called.
EVIL = "<img src=x onerror='window.harmed = 1'></pre><script>window.harmed = 1</script>"
#: Prints until it is let go.
TALK = """
import pathlib, sys, time
for number in range(600):
    print(sys.argv[1], number, flush=True)
    if pathlib.Path("/tmp", sys.argv[2]).exists():
        break
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a client outside of the containers has."""
    return project.bundle(tmp_path_factory.mktemp("bundle"))


def laptop(project: Project, bundle: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside of the containers, with the bundle."""
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    environment = os.environ | {
        "DASK_SCHEDULER_ADDRESS": f"tls://127.0.0.1:{project.settings['SCHEDULER_PORT']}",
        "DASK_TRITONCLUSTER__GATEWAY": project.dashboard,
        f"{tls}CA_FILE": str(bundle / "ca.crt"),
        f"{tls}CLIENT__CERT": str(bundle / "tls.crt"),
        f"{tls}CLIENT__KEY": str(bundle / "tls.key"),
    }
    command = [sys.executable, "-m", "tritoncluster", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def left_alone(project: Project, *words: str) -> str:
    """Leave a job to the cluster, from a container that ends then; give its ID."""
    done = project.workload(*words)
    assert done.returncode == 0, done.stderr + project.log("jobs", "gateway")
    assert re.fullmatch(r"[a-z2-9]{5}\n", done.stdout)
    return done.stdout.strip()


def described(project: Project, job: str) -> dict[str, Any]:
    return json.loads(project.workload("jobs", "show", job, "--json").stdout)


@pytest.mark.slow
def test_every_word_is_the_same_from_containers_and_from_a_laptop(
    project: Project, bundle: Path, tmp_path: Path
) -> None:
    words = ["run", "asian-option", "--paths", "20000"]
    watched = result(project.workload(*words, "--json", "--output", "results/watched-together"))
    job = left_alone(project, *words, "--detach")
    done = laptop(project, bundle, tmp_path, "jobs", "wait", job)
    assert done.returncode == 0, done.stderr + project.log("jobs", "gateway")
    listed = [laptop(project, bundle, tmp_path, "jobs", "--json").stdout, project.workload("jobs", "--json").stdout]
    assert [each["id"] for each in json.loads(listed[0])] == [each["id"] for each in json.loads(listed[1])]
    assert laptop(project, bundle, tmp_path, "jobs", "fetch", job).returncode == 0
    found = json.loads((tmp_path / "results" / job / "result.json").read_text())["result"]
    assert found == watched
    assert project.workload("jobs", "fetch", job, "--output", f"results/{job}").returncode == 0
    assert (project.results / job / "report.html").exists()
    assert described(project, job)["who"] == "client"
    # The other way round.
    (tmp_path / "my.py").write_text("from distributed import Client\nprint(Client().submit(sum, [1, 2]).result())\n")
    done = laptop(project, bundle, tmp_path, "submit", "--detach", "my.py")
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    assert project.workload("jobs", "wait", job).returncode == 0
    assert "\n3\n" in project.workload("jobs", "logs", job).stdout
    for word in ("why", "show", "remove"):
        assert laptop(project, bundle, tmp_path, "jobs", word, job).returncode == 0
    assert "there is no job" in project.workload("jobs", "show", job).stderr


@pytest.mark.slow
def test_a_killed_service_goes_on_with_what_ran(project: Project) -> None:
    """Also without the scheduler that it had."""
    job = left_alone(project, "run", *JOBS["asian-option"], "--detach")
    project.wait_until_busy()
    for name in (*project.names("scheduler"), *project.names("jobs")):
        project.kill(name)
    waiting = project.start_workload("jobs", "wait", job)
    out, err = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, out + err + project.log("jobs")
    assert "goes on, after the service was started anew" in project.workload("jobs", "logs", job).stdout
    project.workload("jobs", "fetch", job, "--output", f"results/{job}")
    found = json.loads((project.results / job / "result.json").read_text())["result"]
    again = project.workload("run", *JOBS["asian-option"], "--json", "--output", f"results/again-{job}")
    assert found == result(again)
    assert described(project, job)["attempts"] == 1
    project.wait_until_healthy()


def test_a_job_that_takes_too_much_memory_ends_alone(project: Project) -> None:
    (project.scripts / "hog.py").write_text(HOG)
    before = [(each["State"]["StartedAt"], each["RestartCount"]) for each in project.inspect("jobs")]
    job = left_alone(project, "submit", "--detach", "hog.py")
    assert project.workload("jobs", "wait", job).returncode == 137
    assert "memory" in project.workload("jobs", "why", job).stdout
    assert [(each["State"]["StartedAt"], each["RestartCount"]) for each in project.inspect("jobs")] == before
    project.wait_until_healthy()


def ask(project: Project, path: str, method: str = "GET", pair: Path | None = None, **headers: str) -> tuple[int, str]:
    """Ask the gateway, with a certificate or without."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair:
        context.load_cert_chain(pair / "tls.crt", pair / "tls.key")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(project.dashboard + path, b"" if method != "GET" else None, named, method=method)
    try:
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_who_is_let_in(project: Project, bundle: Path, tmp_path: Path) -> None:
    job = left_alone(project, "run", "asian-option", "--paths", "2000", "--detach")
    # Programs need a certificate, whatever name they give themselves.
    assert ask(project, "/api/jobs")[0] == 403
    assert ask(project, "/api/jobs", X_Client_Name="tritoncluster client")[0] == 403
    assert project.get("/api/jobs")[0] == 403
    assert ask(project, f"/api/jobs/{job}", "DELETE", X_Client_Name="tritoncluster client")[0] == 403
    assert ask(project, "/api/jobs", pair=bundle)[0] == 200
    # One of another authority is none.
    name = ["-subj", "/CN=tritoncluster client", "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *key, *map(str, name)], check=True, capture_output=True)
    assert ask(project, "/api/jobs", pair=tmp_path)[0] == 400
    # Pages need the password, which a certificate is not; and changes come from pages of this address.
    for path in ("/jobs", "/jobs/", "/jobs/state.json", f"/jobs/{job}", f"/jobs/{job}/log", f"/jobs/{job}/result.json"):
        assert ask(project, path)[0] == 401
        assert ask(project, path, pair=bundle)[0] == 401
        assert project.get(path)[0] in (200, 404)
    assert project.get(f"/jobs/{job}/..%2f..%2fjobs.sqlite")[0] == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as window:
        window.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        yield window


def show(browser: Browser, project: Project, path: str, width: int = 1280, *, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.set_dark(dark=dark)
    browser.driver.get(project.dashboard.replace("https://", f"https://client:{project.password()}@") + path)
    browser.wait_for("return document.getElementById('state').textContent.trim().length > 0")


def text(browser: Browser) -> str:
    return browser.run("return document.body.innerText")


def press(browser: Browser, *keys: str) -> None:
    """Press keys as a keyboard does."""
    for key in keys:
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("rawKeyDown", "char", "keyUp") if key == "Enter" else ("rawKeyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event | ({"text": "\r"} if kind == "char" else {}))


def reach(browser: Browser, label: str) -> None:
    """Come to what has this label with the tabulator alone."""
    for _ in range(60):
        press(browser, "Tab")
        if browser.run("return document.activeElement.getAttribute('aria-label')") == label:
            # And it can be seen that it is there.
            assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"{label} can't be reached: {text(browser)}")


@pytest.mark.slow
def test_the_pages_follow_a_job_from_the_queue_to_its_report(project: Project, browser: Browser) -> None:
    browser.complaints()
    job = left_alone(project, "run", "asian-option", "--paths", "300000", "--detach", "--priority", "3")
    show(browser, project, "/jobs")
    entry = f"return document.querySelector('#{{}} a[href=\"/jobs/{job}\"]') !== null"
    browser.wait_for(entry.format("running"))
    # How far it is, as it comes.
    browser.wait_for("return document.querySelector('#running progress:not([hidden])')?.value > 0", 120)
    assert "run asian-option --paths=300000" in text(browser)
    assert "priority 3" in text(browser)
    browser.wait_for(entry.format("ended"), 300)
    assert "is finished" in browser.run("return document.getElementById('news').textContent")
    browser.run(f"document.querySelector('#ended a[href=\"/jobs/{job}\"]').click()")
    browser.wait_for("return document.getElementById('log')?.textContent.includes('finished') ?? false")
    assert browser.run("return document.title") == "run asian-option --paths=300000 – Jobs – tritoncluster"
    assert browser.complaints() == []
    # The report, which the page's address lets do nothing in its name.
    browser.run("[...document.querySelectorAll('a.button')].find((each) => !each.hidden).click()")
    browser.wait_for("return window.Bokeh !== undefined && Bokeh.documents.length > 0")
    assert "Asian option" in text(browser)
    assert browser.run("return window.origin") == "null"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_pages_fit_a_laptop_and_a_phone(project: Project, browser: Browser, width: int, *, dark: bool) -> None:
    (project.scripts / "long.py").write_text("print('x' * 500)\nraise SystemExit(3)\n")
    job = left_alone(project, "submit", "--detach", "long.py", "a-very-long-argument-" * 5)
    assert project.workload("jobs", "wait", job).returncode == 3
    for path in ("/jobs", f"/jobs/{job}"):
        show(browser, project, path, width, dark=dark)
        browser.wait_for("return document.querySelectorAll('.entry').length > 0")
        room, *edges = browser.run(
            "const all = [...document.querySelectorAll('h1, h2, p, pre, button, .entry, .numbers div')];"
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth,"
            "...all.filter((each) => each.id !== 'news').map((each) => each.getBoundingClientRect().right)];"
        )
        assert max(edges) <= room
        shown = "return [...document.querySelectorAll('button')].filter((each) => each.checkVisibility()).length"
        assert browser.run(shown) == browser.run(
            "return [...document.querySelectorAll('main button')].filter((each) => !each.hidden).length"
        )
        # What a thumb has to meet.
        heights = browser.run(
            "return [...document.querySelectorAll('main button, main a.button')].filter((each) => !each.hidden)"
            ".map((each) => each.getBoundingClientRect().height)"
        )
        assert min(heights) >= 40
    project.workload("jobs", "remove", job)


def test_the_keyboard_cancels_a_job_and_tries_it_again(project: Project, browser: Browser) -> None:
    (project.scripts / "talk.py").write_text(TALK)
    job = left_alone(project, "submit", "--detach", "talk.py", "word", "never")
    show(browser, project, "/jobs")
    browser.wait_for(f"return document.querySelector('#running [aria-label=\"Cancel {job}\"]') !== null", 120)
    reach(browser, f"Cancel {job}")
    press(browser, "Enter")
    # It asks whether that is meant; what has the focus first lets it go on.
    browser.wait_for("return document.getElementById('question').open")
    press(browser, "Enter")
    browser.wait_for("return !document.getElementById('question').open")
    assert described(project, job)["state"] == "running"
    reach(browser, f"Cancel {job}")
    press(browser, "Enter")
    browser.wait_for("return document.getElementById('question').open")
    press(browser, "Tab", "Enter")
    retry = f'[aria-label="Try again {job}"]:not([hidden])'
    browser.wait_for(f"return document.querySelector(`{retry}`) !== null", 60)
    assert described(project, job)["state"] == "cancelled"
    assert "cancelled by client" in text(browser)
    reach(browser, f"Try again {job}")
    press(browser, "Enter")
    browser.wait_for(f"return document.querySelector('#running a[href=\"/jobs/{job}\"]') !== null", 120)
    project.workload("jobs", "cancel", job)


def test_a_log_grows_while_the_job_runs_and_all_that_it_says_stays_text(project: Project, browser: Browser) -> None:
    (project.scripts / "talk.py").write_text(TALK)
    job = left_alone(project, "submit", "--detach", "talk.py", EVIL, "enough")
    show(browser, project, f"/jobs/{job}")
    length = "return document.getElementById('log').textContent.split('\\n').length"
    browser.wait_for(f"{length} > 12", 120)
    before = browser.run(length)
    browser.wait_for(f"{length} > {before}", 60)
    assert f"{EVIL} 3\n" in browser.run("return document.getElementById('log').textContent")
    assert EVIL in browser.run("return document.getElementById('title').textContent")
    show(browser, project, "/jobs")
    browser.wait_for(f"return document.querySelector('a[href=\"/jobs/{job}\"]') !== null")
    assert EVIL in text(browser)
    assert browser.run("return window.harmed") is None
    project.workload("jobs", "cancel", job)


def test_a_service_that_is_away_is_said_and_comes_back(project: Project, browser: Browser) -> None:
    show(browser, project, "/jobs")
    project.compose("stop", "--timeout", "5", "jobs")
    browser.wait_for("return !document.getElementById('trouble').hidden")
    assert "The jobs service does not answer" in text(browser)
    assert "The jobs service does not answer" in project.get("/jobs")[1]
    done = project.workload("jobs")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    project.compose("start", "jobs")
    browser.wait_for("return document.getElementById('trouble').hidden", 120)
    project.wait_until_healthy()
