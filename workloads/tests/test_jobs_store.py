"""The queue on disk, without a service."""

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, sampled_from

from tritoncluster.errors import InputError
from tritoncluster.service.model import ID, Request, State, new_id
from tritoncluster.service.store import Store

#: Accepts a job and dies at once.
ACCEPT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tritoncluster.service.model import Request
from tritoncluster.service.store import Store
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    store.add(f"aaaa{number + 2}", f"key-{number}", "digest", "anna", Request("run", ("forest",), "run forest"))
    print(f"aaaa{number + 2}", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def add(store: Store, priority: int = 0) -> str:
    store.add(id_ := new_id(), str(uuid4()), "digest", "anna", Request("run", ("forest",), "run forest", priority))
    return id_


OPEN: list[Store] = []


def opened(path: Path) -> Store:
    OPEN.append(Store(path))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


def test_what_was_accepted_is_there_when_the_process_is_killed(path: Path) -> None:
    command = [sys.executable, "-c", ACCEPT_AND_DIE, str(path), "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (
        [job.id for job in opened(path).in_state(State.WAITING)] == done.stdout.split() == ["aaaa2", "aaaa3", "aaaa4"]
    )


def test_each_change_waits_for_the_disk(path: Path) -> None:
    full = 2
    assert opened(path)._database.execute("PRAGMA synchronous").fetchone() == (full,)


def test_jobs_come_by_priority_then_by_arrival(path: Path) -> None:
    store = opened(path)
    low, first, second, high = add(store, -1), add(store), add(store), add(store, 7)
    assert [job.id for job in store.in_state(State.WAITING)] == [high, first, second, low]
    assert [job.id for job in store.all()] == [high, first, second, low]


def test_a_job_that_is_tried_again_by_hand_waits_at_the_end(path: Path) -> None:
    store = opened(path)
    first, second = add(store), add(store)
    assert store.cancel(first, "anna")
    assert store.retry(first)
    third = add(store)
    assert [job.id for job in store.in_state(State.WAITING)] == [second, first, third]
    assert not store.retry(first)


def test_the_same_key_is_the_same_job(path: Path) -> None:
    store, key = opened(path), str(uuid4())
    store.add("aaaaa", key, "digest", "anna", Request("run", ("forest",), "run forest"))
    with pytest.raises(sqlite3.IntegrityError):
        store.add("bbbbb", key, "digest", "anna", Request("run", ("forest",), "run forest"))
    job, digest = store.known(key) or pytest.fail("it is not known")
    assert (job.id, digest) == ("aaaaa", "digest")
    assert [job.id for job in store.all()] == ["aaaaa"]


def test_a_newer_format_is_refused_in_one_line(path: Path) -> None:
    store = opened(path)
    store._database.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(InputError, match=r"^.*jobs.sqlite was written by a newer tritoncluster; start that one, or"):
        Store(path)


def test_what_ended_while_the_clock_was_wrong_ended_now(path: Path) -> None:
    store = opened(path)
    job = add(store)
    store.cancel(job, "anna")
    # Nor is what a clock that was ahead had end in a year kept longer for that.
    for ended in (86_400.0, time.time() + 365 * 86_400):
        store._database.execute("UPDATE jobs SET ended = ?", [ended])
        store.set_unknown_ends()
        assert abs(time.time() - (store.get(job).ended or 0)) < 3600


def test_ids_can_be_typed() -> None:
    ids = {new_id() for _ in range(1000)}
    assert all(ID.fullmatch(each) and len(each) == 5 and not set(each) & set("0o1il") for each in ids)


class Model(RuleBasedStateMachine):
    """A store that is opened anew at any moment says what a dictionary says."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "jobs.sqlite")
        self.store = opened(self.path)
        self.states: dict[str, State] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            while OPEN:
                OPEN.pop().close()
            self.folder.cleanup()

    def some(self, place: int) -> str:
        return list(self.states)[place % len(self.states)]

    @rule(priority=integers(-3, 3))
    def accept(self, priority: int) -> None:
        self.states[add(self.store, priority)] = State.WAITING

    @rule()
    def open_anew(self) -> None:
        # Without a word to the old one, as when its process is killed.
        self.store = opened(self.path)

    @precondition(lambda self: self.states)
    @rule(place=integers(0, 99), ending=sampled_from([State.FINISHED, State.FAILED]), again=booleans())
    def step(self, place: int, ending: State, again: bool) -> None:  # noqa: FBT001
        job = self.some(place)
        if self.store.begin(job):
            assert self.states[job] is State.WAITING
            self.states[job] = State.RUNNING
        elif again and self.store.wait_again(job, "it failed"):
            assert self.states[job] is State.RUNNING
            self.states[job] = State.WAITING
        elif self.store.end(job, ending):
            assert self.states[job] is State.RUNNING
            self.states[job] = ending
        else:
            assert self.states[job].ended

    @precondition(lambda self: self.states)
    @rule(place=integers(0, 99))
    def cancel(self, place: int) -> None:
        job = self.some(place)
        assert self.store.cancel(job, "ben") is not self.states[job].ended
        if not self.states[job].ended:
            self.states[job] = State.CANCELLED

    @precondition(lambda self: self.states)
    @rule(place=integers(0, 99))
    def retry(self, place: int) -> None:
        job = self.some(place)
        may = self.states[job] in (State.FAILED, State.CANCELLED)
        assert self.store.retry(job) is may
        if may:
            self.states[job] = State.WAITING

    @precondition(lambda self: self.states)
    @rule(place=integers(0, 99))
    def remove(self, place: int) -> None:
        job = self.some(place)
        assert self.store.remove(job) is self.states[job].ended
        if self.states[job].ended:
            del self.states[job]

    @invariant()
    def same(self) -> None:
        if hasattr(self, "folder"):
            assert {job.id: job.state for job in self.store.all()} == self.states


Model.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestModel = Model.TestCase
