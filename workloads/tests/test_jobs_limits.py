"""What a job may take, how long it is kept, who is let in, and what is refused: a service as a process."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from jobs_service import Service, ask, describe, service, wait_for


def test_a_job_has_a_limit_of_memory_and_of_time(shared: Service) -> None:
    hungry = shared.submit("import time\nx = bytearray(700 * 2**20)\ntime.sleep(600)", "--retries", "3")
    slow = shared.submit("import time\ntime.sleep(600)", "--max-time", "8s")
    assert shared.command("jobs", "wait", hungry).returncode == 137
    why = shared.command("jobs", "why", hungry).stdout
    assert "MiB of memory, and 600 MiB is what a job may take" in why
    assert shared.command("jobs", "wait", slow).returncode != 0
    assert "longer than 8.00 s, its --max-time" in shared.command("jobs", "why", slow).stdout
    # The same would happen again.
    assert describe(shared, hungry)["attempts"] == 1


def test_what_a_job_leaves_behind_ends_with_it(shared: Service) -> None:
    script = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=subprocess.DEVNULL).pid)\n"
    )
    job = shared.submit(script)
    assert shared.command("jobs", "wait", job).returncode == 0
    lines = shared.command("jobs", "logs", job).stdout.splitlines()
    (pid,) = (int(line) for line in lines if line.isdecimal())
    # The kernel may be about to take it away.
    wait_for(lambda: not is_asleep(pid))


def is_asleep(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return process.name() == "sleep" and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.slow
def test_a_log_is_limited(shared: Service) -> None:
    script = "import time\nfor n in range(12000):\n    print(n)\ntime.sleep(3)\nprint('the end')"
    job = shared.submit(script)
    assert shared.command("jobs", "wait", job).returncode == 0
    log = shared.command("jobs", "logs", job).stdout
    assert len(log) < 20_000
    assert "bytes are gone" in log
    assert "the end\n" in log


@pytest.mark.slow
def test_jobs_that_ended_are_kept_for_a_time_and_up_to_a_size(tmp_path: Path, scheduler: str) -> None:
    with service(tmp_path / "kept", scheduler, keep_size="1m", at_once=1) as jobs:
        small = jobs.submit("print(1)")
        large = jobs.submit("open('large', 'wb').write(bytes(2**20))")
        last = jobs.submit("print(2)")
        assert jobs.command("jobs", "wait", last).returncode == 0
        assert "removed" in jobs.command("jobs", "remove", last).stdout
        assert jobs.command("jobs", "remove", last).returncode == 2
        # What is kept is seen to when the service begins, and now and then.
        jobs.stop()
        jobs.start()
        wait_for(lambda: not (jobs.store / "jobs" / large).exists())
        assert {job["id"] for job in json.loads(jobs.command("jobs", "--json").stdout)} <= {small}
        jobs.stop()
        jobs.settings["DASK_TRITONCLUSTER__JOBS__KEEP_TIME"] = "1ms"
        time.sleep(0.01)
        jobs.start()
        wait_for(lambda: json.loads(jobs.command("jobs", "--json").stdout) == [])
        assert list((jobs.store / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/../../jobs.sqlite",
        "/api/jobs/..%2f..%2fjobs.sqlite/log",
        "/jobs/{job}/journal.sqlite",
        "/jobs/{job}/..%2f..%2f..%2fjobs.sqlite",
        "/jobs/{job}/../../jobs.sqlite",
        "/jobs/{job}/%2e%2e/log.txt",
        "/jobs/{job}/files/script.py",
        "/jobs/.../log",
    ],
)
def test_there_is_no_way_to_other_files(shared: Service, path: str) -> None:
    job = json.loads(shared.command("jobs", "--json").stdout or "[]")[0]["id"]
    assert ask(shared, "GET", path.format(job=job), X_Client_Name="tritoncluster anna")[0] == 404


def test_a_link_that_a_job_makes_shows_no_other_file(shared: Service, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret")
    secret, folder = repr(str(tmp_path / "secret")), repr(str(tmp_path))
    script = f"import os\nos.symlink({secret}, '../report.html')\nos.symlink({folder}, 'folder')"
    job = shared.submit(script)
    assert shared.command("jobs", "wait", job).returncode == 0
    assert ask(shared, "GET", f"/jobs/{job}/report.html")[0] == 404
    assert b"the secret" not in ask(shared, "GET", f"/api/jobs/{job}/folder", X_Client_Name="tritoncluster anna")[1]


def test_who_has_no_certificate_and_who_comes_from_another_page_is_refused(shared: Service) -> None:
    job = shared.submit("print(1)")
    assert ask(shared, "GET", "/api/jobs")[0] == 403
    assert ask(shared, "PUT", f"/api/jobs/{uuid4()}", b"x")[0] == 403
    for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost"}):
        for action in ("cancel", "retry"):
            assert ask(shared, "POST", f"/jobs/{job}/{action}", b"", **origin)[0] == 403
    # A browser that has a certificate is no program.
    headers = {"X_Client_Name": "tritoncluster anna", "Origin": "https://localhost"}
    assert ask(shared, "POST", f"/api/jobs/{job}/cancel", b"", **headers)[0] == 403
    assert ask(shared, "POST", f"/jobs/{job}/cancel", b"", Origin="https://localhost")[0] in (200, 409)
    assert ask(shared, "DELETE", f"/jobs/{job}", Origin="https://localhost")[0] == 405


@pytest.mark.slow
def test_what_does_not_go_with_detach_is_one_line(shared: Service, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print(1)")
    (tmp_path / "large.bin").write_bytes(bytes(2 * 2**20))
    for words, message in {
        ("run", "forest", "--detach", "--output", "x"): "--output does not go with --detach",
        ("run", "forest", "--detach", "--workers", "2"): "--workers does not go with --detach",
        ("run", "forest", "--detach", "--trees", "-1"): "--trees must be at least",
        ("run", "forest", "--retries", "2"): "add --detach",
        ("submit", "--detach", "--max-time", "soon", "a.py"): "--max-time must be a time, as 90m or 2h, not 'soon'",
        ("submit", "--detach", "missing.py"): "there is no script missing.py",
        ("submit", "--detach", "--with", "large.bin", "a.py"): "what goes along has 2 MiB, and the service takes 1",
        ("jobs", "show", "1l0"): "'1l0' is no job's ID",
        ("jobs", "show", "zzzzz"): "there is no job zzzzz",
    }.items():
        done = shared.command(*words, folder=tmp_path)
        assert done.returncode == 2, words
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_who_has_no_cluster_no_bundle_or_another_gateway_is_told(shared: Service, tmp_path: Path) -> None:
    def complaint(**environment: str) -> str:
        command = [sys.executable, "-m", "tritoncluster", "jobs"]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        return done.stderr

    good = shared.environment()
    assert "none is named" in complaint()
    assert "Dask's configuration names none" in complaint(DASK_TRITONCLUSTER__GATEWAY=shared.gateway.address)
    (tmp_path / "other").mkdir()
    assert "can't be read" in complaint(**good | {"DASK_TRITONCLUSTER__GATEWAY_CA": str(tmp_path / "nothing.crt")})
    authority = str(shared.folder / "tls/authority/tls.crt")
    assert "does not show the certificate" in complaint(**good | {"DASK_TRITONCLUSTER__GATEWAY_CA": authority})
    assert "as https://desk:8787" in complaint(**good | {"DASK_TRITONCLUSTER__GATEWAY": "http://desk"})


def test_a_folder_has_one_service(shared: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tritoncluster.service", str(shared.store), str(tmp_path / "socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1
    assert done.stderr == f"jobs: another jobs service has {shared.store}; end that one, or name another folder\n"


def test_settings_that_can_not_be_used_are_one_line(tmp_path: Path) -> None:
    for name, value in {"AT_ONCE": "0", "MEMORY": "much", "KEEP_TIME": "-3 days"}.items():
        command = [sys.executable, "-m", "tritoncluster.service", str(tmp_path), str(tmp_path / "socket")]
        environment = os.environ | {f"DASK_TRITONCLUSTER__JOBS__{name}": value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "must be" in done.stderr
