"""A study in a room as it is: machines that are lost or hang on the way, others on the cluster, and Ctrl-C."""

import gc
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
from command import COMMAND, interrupt
from distributed import Client, get_worker

from tritoncluster.balance import balanced_map, driver
from tritoncluster.balance.choice import chosen_workers
from tritoncluster.cli import EXIT_FAILED
from tritoncluster.cli.interrupts import interrupted_once, interruptible, uninterrupted
from tritoncluster.errors import JobStoppedError, NoWorkersError, WorkersLostError
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.scale import Scaling, scale, study

SCHEMA = json.loads(files("tritoncluster").joinpath("result.schema.json").read_text())
#: The worker to which things happen.
VICTIM = "1"


@dataclass(frozen=True)
class Stepwise:
    """The option, and what happens when a run is under way: it is told the names of its workers, and its number."""

    happens: Callable[[frozenset[str], int], None]
    paths: int = 60_000
    name: ClassVar[str] = "asian-option"
    _runs: Any = field(default_factory=count)

    def run(self, client: Client, _: Any = None) -> Any:
        chosen = chosen_workers()
        assert chosen
        number = next(self._runs)
        told: list[None] = []

        def begun(*_told: Any) -> None:
            if not told:
                told.append(None)
                self.happens(chosen.names, number)

        return AsianOption(paths=self.paths).run(client, begun)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a machine."""
    monkeypatch.setattr(study, "COMES_BACK", 3.0)
    monkeypatch.setattr(driver, "SAY", 1.0)


def pid_of(client: Client, name: str) -> int:
    info = client.scheduler_info(n_workers=-1)["workers"]
    (address,) = [address for address, each in info.items() if str(each["name"]) == name]
    return client.run(os.getpid, workers=[address])[address]


@contextmanager
def stopped_when(client: Client, names: Callable[[frozenset[str]], bool]) -> Iterator[Stepwise]:
    """Stop the victim's process once a step that counts is under way on workers for which `names` holds."""
    pid = pid_of(client, VICTIM)

    def stop(workers: frozenset[str], number: int) -> None:
        if number and VICTIM in workers and names(workers):
            os.kill(pid, signal.SIGSTOP)

    try:
        yield Stepwise(stop)
    finally:
        os.kill(pid, signal.SIGCONT)


def without_the_victim(found: Scaling) -> None:
    """Assert that the study came to its end, and what it says of the machine that it lost."""
    (lost,) = [machine for machine in found.machines if VICTIM in machine.workers]
    assert found.stopped is None
    assert found.left_out == {lost.name: "it no longer answers"}
    assert f"{lost.name} was left out on the way: it no longer answers." in found.verdict
    last = found.steps[-1]
    assert {name for machine in last.machines for name in machine.workers} == {"0", "2"}
    assert not last.away
    content = found.to_json()
    jsonschema.validate(content, SCHEMA)
    assert content["finished"] is True
    assert [each["name"] for each in content["result"]["machines"] if each["left_out"]] == [lost.name]


@pytest.mark.usefixtures("soon")
def test_a_machine_that_hangs_alone_is_left_out_and_the_rest_is_measured(
    cluster_of: Callable[[int], Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = cluster_of(3)
    # The cluster has silenced it.
    caplog.handler.setLevel(logging.NOTSET)
    with stopped_when(client, lambda workers: len(workers) == 1) as job:
        found = scale(client, job, [2, 3], alone=True)
    without_the_victim(found)
    assert "No worker answers and takes work: waiting for 3.00 s" in caplog.messages
    assert {name for step in found.alone for machine in step.machines for name in machine.workers} == {"0", "2"}


@pytest.mark.usefixtures("soon")
def test_a_step_in_which_a_machine_hangs_is_done_again_without_it(cluster_of: Callable[[int], Client]) -> None:
    client = cluster_of(3)
    with stopped_when(client, lambda workers: len(workers) == 3) as job:
        found = scale(client, job)
    without_the_victim(found)
    # That of two had the victim, or was the same as that of three without it.
    two = [step for step in found.steps if len(step.machines) == 2]
    assert len({frozenset(step.machines) for step in two}) == len(two)
    assert [len(step.machines) for step in found.steps] == [1, *[2 for _ in two]]


@pytest.mark.usefixtures("soon")
def test_a_machine_that_is_gone_for_good_is_left_out(cluster_of: Callable[[int], Client]) -> None:
    client = cluster_of(3)
    pid = pid_of(client, VICTIM)

    def kill(workers: frozenset[str], number: int) -> None:
        if number and workers == {VICTIM}:
            # Its nanny, too, which would start another one.
            client.sync(client.cluster.workers[int(VICTIM)].close, reason="its plug was pulled")
            assert not Path(f"/proc/{pid}").exists()

    without_the_victim(scale(client, Stepwise(kill), [2, 3], alone=True))


def test_a_worker_that_is_killed_and_comes_back_is_counted_again_and_the_step_has_a_star(
    cluster_of: Callable[[int], Client],
) -> None:
    client = cluster_of(2)

    def kill(workers: frozenset[str], number: int) -> None:
        if number == 1 and len(workers) == 2:
            os.kill(pid_of(client, VICTIM), signal.SIGKILL)

    found = scale(client, Stepwise(kill), [2])
    assert found.left_out == {}
    assert [name for name in found.steps[0].away if name.endswith(VICTIM)]
    assert found.steps[0].disturbed
    assert found.uncertain == {machine.name for machine in found.machines}
    jsonschema.validate(found.to_json(), SCHEMA)


@pytest.mark.usefixtures("soon")
def test_a_room_that_hangs_as_a_whole_ends_the_study_with_what_was_measured(
    cluster_of: Callable[[int], Client],
) -> None:
    client = cluster_of(2)
    pids = [pid_of(client, name) for name in ("0", "1")]

    def stop(workers: frozenset[str], number: int) -> None:
        if number and len(workers) == 2:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)

    try:
        found = scale(client, Stepwise(stop))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert isinstance(found.stopped, NoWorkersError)
    assert [len(step.machines) for step in found.steps] == [1]
    assert len(found.left_out) == 2


def ends_the_victim(number: int) -> int:
    if str(get_worker().name) == VICTIM:
        os._exit(1)
    return number


@dataclass(frozen=True)
class Deadly:
    """Work of which the victim dies, but for the first time."""

    name: ClassVar[str] = "asian-option"
    _runs: Any = field(default_factory=count)

    def run(self, client: Client, _: Any = None) -> Any:
        function = ends_the_victim if next(self._runs) else abs
        try:
            return list(balanced_map(function, range(200), client))
        except WorkersLostError as error:
            raise JobStoppedError(None) from error


def test_a_machine_that_dies_of_the_work_is_left_out(cluster_of: Callable[[int], Client]) -> None:
    client = cluster_of(3)
    found = scale(client, Deadly(), [3], alone=True)
    (lost,) = [machine for machine in found.machines if VICTIM in machine.workers]
    assert found.left_out == {lost.name: "its workers died of the work"}
    assert [len(step.machines) for step in (*found.alone, *found.steps)] == [1, 1, 2]


def test_what_ends_a_study_leaves_what_was_measured(client: Client) -> None:
    def break_off(_: frozenset[str], number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    found = scale(client, Stepwise(break_off))
    assert isinstance(found.stopped, KeyboardInterrupt)
    assert [len(step.machines) for step in found.steps] == [1]
    content = found.to_json()
    jsonschema.validate(content, SCHEMA)
    assert content["finished"] is False


def test_nothing_is_left_of_a_study_that_ends_in_its_first_run(client: Client) -> None:
    def break_off(_: frozenset[str], number: int) -> None:
        raise ZeroDivisionError("as it must")

    with pytest.raises(ZeroDivisionError, match="as it must"):
        scale(client, Stepwise(break_off))


def test_a_second_ctrl_c_at_once_is_the_same_one() -> None:
    """It would end what the first one has begun to keep."""
    with interrupted_once():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_garbage_collection_is_not_lost() -> None:
    """Dask has a callback there, in which Python ignores what is raised."""

    def interrupt_once(phase: str, _: Any) -> None:
        if phase == "stop" and interrupt_once in gc.callbacks:
            gc.callbacks.remove(interrupt_once)
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(interrupt_once)
    with interruptible(), interrupted_once(), pytest.raises(KeyboardInterrupt):
        wait_after(gc.collect)


def wait_after(work: Callable[[], Any]) -> None:
    work()
    time.sleep(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "when"),
    [
        (["scale", "asian-option", "--paths", "60000", "--workers", "3"], r"[23]/4"),
        (["compare", "asian-option", "--paths", "60000", "--workers", "2"], "ways .processes"),
    ],
    ids=["scale", "compare"],
)
def test_ctrl_c_keeps_the_steps_that_are_done(tmp_path: Path, arguments: list[str], when: str) -> None:
    done = interrupt(tmp_path, *arguments, when=when)
    assert done.status == 130
    assert f"{arguments[0]} asian-option was interrupted; what was finished is in results/" in done.output
    assert "Traceback" not in done.output
    assert done.left == []
    (path,) = tmp_path.rglob("result.json")
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["finished"] is False
    assert "Stopped early: interrupted from the keyboard" in path.with_name("report.html").read_text()


def test_others_who_do_the_same_work_disturb_a_step(client: Client) -> None:
    """Their tasks have the names of ours: the workers tell them apart."""
    address = client.scheduler.address
    ended = threading.Event()

    def work() -> None:
        with Client(address, set_as_default=False) as other:
            while not ended.is_set():
                AsianOption(paths=40_000).run(other)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = scale(client, AsianOption(paths=120_000), [2])
    finally:
        ended.set()
        thread.join()
    assert found.steps[0].crowded
    assert found.uncertain == {machine.name for machine in found.machines}
    quiet = scale(client, AsianOption(paths=40_000), [2])
    assert not quiet.steps[0].crowded
    assert not quiet.uncertain


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["scale", "compare"])
def test_a_full_disk_is_one_line(tmp_path: Path, verb: str) -> None:
    """As one that takes no file of more than a kilobyte."""
    words = [*COMMAND, verb, "asian-option", "--paths", "4000", "--workers", "2"]
    shell = ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh"]
    done = subprocess.run([*shell, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAILED
    (line,) = done.stderr.splitlines()
    assert line.startswith("tritoncluster: the result can't be written to results/")
    assert line.endswith(": File too large; make room there")
    # It was measured, and is on the screen.
    assert "made the work" in done.stdout or "The cluster" in done.stdout
