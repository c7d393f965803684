"""What starts jobs does what a model of it says, whatever people, programs and the end of the service do in between."""

import errno
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, integers, sampled_from

from tritoncluster.service import folders, processes, starter
from tritoncluster.service.folders import Folders
from tritoncluster.service.model import Job, Request, State, new_id
from tritoncluster.service.settings import Settings
from tritoncluster.service.starter import BAD_INPUT, INTERRUPTED, LATER, Starter
from tritoncluster.service.store import Store
from tritoncluster.service.upload import FILES

#: In place of a job's program: ends as a file says, "kill" or a status.
PROGRAM = "until [ -e end ]; do sleep 0.02; done; read how <end; rm end; [ $how = kill ] && kill -9 $$; exit $how"
AT_ONCE = 2
PATIENCE = 300


@dataclass
class Expected:
    """What the model knows of a job."""

    priority: int
    retries: int
    number: int
    state: State = State.WAITING
    attempts: int = 0


class Model(RuleBasedStateMachine):
    """Accepted, waiting, running, over, removed; retries, priorities, services that end in any way."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.jobs: dict[str, Expected] = {}
        self.numbers = 0
        self.open()

    def open(self) -> None:
        base = Path(self.folder.name)
        self.folders = Folders(base)
        self.store = Store(self.folders.database)
        self.starter = Starter(self.store, self.folders, Settings(at_once=AT_ONCE))
        self.starter.resume()

    def close(self) -> None:
        self.folders.close()
        self.store.close()

    def teardown(self) -> None:
        if hasattr(self, "starter"):
            self.starter.end()
            self.close()
            self.folder.cleanup()

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def in_order(self) -> list[str]:
        waiting = [name for name, job in self.jobs.items() if job.state is State.WAITING]
        return sorted(waiting, key=lambda name: (-self.jobs[name].priority, self.jobs[name].number))

    def running(self) -> list[str]:
        return sorted(name for name, job in self.jobs.items() if job.state is State.RUNNING)

    def some(self, place: int) -> str:
        return list(self.jobs)[place % len(self.jobs)]

    def settle(self, gone: subprocess.Popen[bytes] | None = None) -> None:
        """Let the starter do all there is to do, which the model has done at once; `gone` is a program that ends."""
        for name in self.in_order()[: AT_ONCE - len(self.running())]:
            self.jobs[name].state = State.RUNNING
            self.jobs[name].attempts += 1
        deadline = time.monotonic() + PATIENCE
        while True:
            self.starter.tick()
            leaders = {name: run.leader for name, run in self.starter._runs.items()}
            done = gone not in leaders.values() and sorted(leaders) == self.running()
            if done or time.monotonic() > deadline:
                return
            time.sleep(0.005)

    @rule(priority=integers(-1, 1), retries=integers(0, 2))
    def accept(self, priority: int, retries: int) -> None:
        id_ = new_id()
        (self.folders.of(id_) / FILES).mkdir(parents=True)
        request = Request("run", ("forest",), "run forest", priority, None, retries)
        self.store.add(id_, str(uuid4()), "digest", "anna", request)
        self.jobs[id_] = Expected(priority, retries, self.next_number())
        self.settle()

    @precondition(lambda self: self.running())
    @rule(place=integers(0, 9), how=sampled_from(["0", "1", "1", "kill", str(BAD_INPUT), str(LATER), str(INTERRUPTED)]))
    def end(self, place: int, how: str) -> None:
        name = self.running()[place % len(self.running())]
        leader = self.starter._runs[name].leader
        files = self.folders.of(name) / FILES
        (files / "new").write_text(f"{how}\n")
        (files / "new").rename(files / "end")
        job = self.jobs[name]
        if how == str(LATER):
            job.state, job.attempts = State.WAITING, job.attempts - 1
        elif how == "0":
            job.state = State.FINISHED
        else:
            again = how in ("1", "kill") and job.attempts <= job.retries
            job.state = State.WAITING if again else State.FAILED
        self.settle(leader)

    @rule(told=booleans())
    def service_ends_and_starts(self, told: bool) -> None:  # noqa: FBT001
        leaders = [run.leader for run in self.starter._runs.values()]
        if told:
            self.starter.end()
        self.close()
        self.open()
        # Nobody has heard of the programs of the one before since.
        assert [leader.wait(PATIENCE) for leader in leaders] == [-signal.SIGKILL] * len(leaders)
        self.settle()

    @precondition(lambda self: self.jobs)
    @rule(place=integers(0, 99))
    def cancel(self, place: int) -> None:
        name = self.some(place)
        job = self.jobs[name]
        assert self.starter.cancel(name, "ben") is not job.state.ended
        if not job.state.ended:
            job.state = State.CANCELLED
        self.settle()

    @precondition(lambda self: self.jobs)
    @rule(place=integers(0, 99))
    def retry(self, place: int) -> None:
        name = self.some(place)
        job, may = self.jobs[name], self.jobs[name].state in (State.FAILED, State.CANCELLED)
        assert self.store.retry(name) is may
        if may:
            job.state, job.attempts, job.number = State.WAITING, 0, self.next_number()
        self.settle()

    @precondition(lambda self: self.jobs)
    @rule(place=integers(0, 99))
    def remove(self, place: int) -> None:
        name = self.some(place)
        assert self.starter.remove(name) is self.jobs[name].state.ended
        if self.jobs[name].state.ended:
            del self.jobs[name]
            assert not self.folders.of(name).exists()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "starter"):
            found = {job.id: (job.state, job.attempts) for job in self.store.all()}
            assert found == {name: (job.state, job.attempts) for name, job in self.jobs.items()}
            assert self.starter.waiting() == self.in_order()
            assert sorted(self.starter._runs) == self.running()


def program(job: Job, folder: Path) -> list[str]:
    """Give a job's program, of which nothing matters here but how it ends."""
    del job, folder
    return ["sh", "-c", PROGRAM]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs with that program, which try a cluster again at once, and can be interrupted."""
    monkeypatch.setattr(starter, "command", program)
    monkeypatch.setattr(starter, "AGAIN", 0.0)
    # Whoever started the tests in the background had Ctrl-C ignored, and that is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("programs")
def test_jobs_do_what_a_model_of_them_does() -> None:
    few = settings(max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Model, settings=few)


@pytest.mark.usefixtures("programs")
def test_what_there_is_no_room_to_start_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, full = processes.start, True

    def start_if_there_is_room(*words: Any, **named: Any) -> Any:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return start(*words, **named)

    monkeypatch.setattr(processes, "start", start_if_there_is_room)
    places = Folders(tmp_path)
    store = Store(places.database)
    found = Starter(store, places, Settings())
    (places.of("aaaaa") / FILES).mkdir(parents=True)
    store.add("aaaaa", str(uuid4()), "digest", "anna", Request("run", ("forest",), "run forest"))
    for _ in range(3):
        found.tick()
        job = store.get("aaaaa")
        assert (job.state, job.attempts) == (State.WAITING, 0)
        assert found.why(job, ["aaaaa"]).endswith("it could not be started: No space left on device")
    full = False
    found.tick()
    job = store.get("aaaaa")
    assert (job.state, job.attempts) == (State.RUNNING, 1)
    found.end()
    places.close()
    store.close()


@pytest.mark.usefixtures("programs")
def test_time_that_a_job_ran_counts_over_services(tmp_path: Path) -> None:
    """A limit of time is of what ran, with whichever service; somebody who wants it to run again begins anew."""

    def serve() -> tuple[Folders, Store, Starter]:
        places = Folders(tmp_path)
        store = Store(places.database)
        return places, store, Starter(store, places, Settings())

    def tick_until(state: State) -> None:
        deadline = time.monotonic() + PATIENCE
        while store.get("aaaaa").state is not state or bool(found._runs) is not (state is State.RUNNING):
            assert time.monotonic() < deadline, store.get("aaaaa")
            found.tick()
            time.sleep(0.01)

    places, store, found = serve()
    (places.of("aaaaa") / FILES).mkdir(parents=True)
    request = Request("run", ("forest",), "run forest", max_time=3600.0)
    store.add("aaaaa", str(uuid4()), "digest", "anna", request)
    tick_until(State.RUNNING)
    # Not at each look: it is noted when the service ends, and now and then.
    found.end()
    assert folders.ran(places.of("aaaaa")) > 0
    # An hour later.
    folders.note_ran(places.of("aaaaa"), 3599.9)
    places.close()
    store.close()
    places, store, found = serve()
    found.resume()
    tick_until(State.FAILED)
    assert "longer than" in store.get("aaaaa").reason
    assert store.retry("aaaaa")
    tick_until(State.RUNNING)
    assert folders.ran(places.of("aaaaa")) < 3000
    found.end()
    places.close()
    store.close()
