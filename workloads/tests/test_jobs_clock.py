"""A clock that is set while the service runs: libfaketime sets that of its process alone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_service import Service, Steps, describe, wait_for

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
#: The service that looks at what it keeps all the time. Its jobs have the machine's clock, as their sleep is Python's,
#: which libfaketime 0.9.10 can't do.
PROGRAM = """
import os, threading, time
os.environ.pop("LD_PRELOAD", None)
time.sleep = lambda seconds: threading.Event().wait(seconds)
from tritoncluster.service import __main__, starter
starter.TIDY = 0.0
__main__.main()
"""


class Clocked:
    """A service whose clock a test sets."""

    def __init__(self, jobs: Service, folder: Path) -> None:
        self.jobs, self._file = jobs, folder / "clock"
        self.set(0)
        jobs.program = ["-c", PROGRAM]
        jobs.settings |= {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, days: int) -> None:
        """Set its clock so many days ahead, or behind."""
        new = self._file.with_name("clock-new")
        new.write_text(f"{days:+}d\n")
        new.replace(self._file)


@pytest.fixture
def clocked(tmp_path: Path, scheduler: str) -> Iterator[Clocked]:
    if not LIBRARIES:
        pytest.fail(".ci/need faketime brings it: libfaketime is not here")
    jobs = Service(tmp_path / "service", scheduler, at_once=1, keep_time="12 hours", keep_size="1m")
    try:
        yield Clocked(jobs, tmp_path)
    finally:
        jobs.close()


def shown(jobs: Service) -> list[tuple[str, str, int | None]]:
    """List the jobs, their states and their places; nothing that people see of them is negative."""
    found = json.loads(jobs.command("jobs", "--json").stdout)
    for text in (jobs.command("jobs").stdout, *(job["why"] for job in found)):
        assert not re.search(r"(?<![\w-])-\d", text), text
    return [(job["id"], job["state"], job["place"]) for job in found]


# Many commands, each of which starts a Python.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_clock_that_is_set_changes_nothing_of_what_runs_waits_and_is_kept(clocked: Clocked, tmp_path: Path) -> None:
    jobs = clocked.jobs
    jobs.start()
    kept = jobs.submit("print(1)")
    assert jobs.command("jobs", "wait", kept).returncode == 0
    steps = Steps(jobs, tmp_path)
    names, order = ["first"], [steps.submit("first", "--max-time", "1h")]
    steps.wait_until("began first")
    for days, name in ((-1, "yesterday"), (1, "tomorrow"), (0, "today")):
        clocked.set(days)
        names.append(name)
        order.append(steps.submit(name))
        places = [(id_, "waiting", place) for place, id_ in enumerate(order[1:], 1)]
        assert shown(jobs) == [(order[0], "running", None), *places, (kept, "finished", None)]
    # They end tomorrow, where what has ended today is old.
    clocked.set(1)
    steps.let_go()
    assert jobs.command("jobs", "wait", order[-1]).returncode == 0
    assert steps.written() == [line for name in names for line in (f"began {name}", f"ended {name}")]
    clocked.set(0)
    limited = jobs.submit("import time\ntime.sleep(600)", "--max-time", "6s")
    wait_for(lambda: describe(jobs, limited)["state"] == "running")
    # A day is none that it ran. It ends yesterday, which is old today.
    clocked.set(-1)
    assert jobs.command("jobs", "wait", limited).returncode != 0
    assert describe(jobs, limited)["reason"] == "it ran for longer than 6.00 s, its --max-time"
    clocked.set(0)
    last = jobs.submit("print(2)")
    assert jobs.command("jobs", "wait", last).returncode == 0
    assert {(id_, state) for id_, state, _ in shown(jobs)} == {
        (limited, "failed"), *((id_, "finished") for id_ in (kept, *order, last))
    }  # fmt: skip
