"""Runs that go on where they were: what was finished is not computed again, and what comes out is the same."""

import os
import random
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import COMMAND, interrupt, tritoncluster
from distributed import Client
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tritoncluster.balance import BalancedBackend, balanced_map
from tritoncluster.balance.opened import noted
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.journal import JOURNAL, Journal, in_use


@contextmanager
def journalled(folder: Path, told: list[str] | None = None) -> Iterator[Journal]:
    """Give a run a journal in a folder, and end it."""
    journal = Journal(folder / JOURNAL, tell=(told if told is not None else []).append)
    try:
        with in_use(journal):
            yield journal
    finally:
        journal.close(complete=True)


def token(*_arguments: Any) -> tuple[int, int]:
    """Give what no other call gives."""
    return time.time_ns(), random.getrandbits(64)


def fails_at_30(number: int) -> tuple[int, int]:
    if number == 30:
        # Others come to their end before.
        time.sleep(0.5)
        raise ValueError("planned")
    return token()


def test_map_goes_on(client: Client, tmp_path: Path):
    with journalled(tmp_path):
        half = balanced_map(token, range(200), client)
        first = [next(half) for _ in range(100)]
        half.close()
    with journalled(tmp_path) as journal:
        results = list(balanced_map(token, range(200), client))
    assert results[:100] == first
    assert journal.taken >= 100
    assert journal.taken + journal.computed == 200
    with journalled(tmp_path) as journal:
        assert list(balanced_map(token, range(200), client)) == results
        # As they come: from the journal in their order.
        assert (
            sorted(balanced_map(token, range(200, 260), client, ordered=False))
            == sorted(balanced_map(token, range(200, 260), client, ordered=False))
            or journal.computed == 120
        )
    assert journal.taken == 200


def test_equal_calls_keep_their_own_results(client: Client, tmp_path: Path):
    with journalled(tmp_path):
        results = list(balanced_map(token, [0] * 50, client))
    assert len(set(results)) == 50
    with journalled(tmp_path) as journal:
        again = list(balanced_map(token, [0] * 60, client))
    assert again[:50] == results
    assert len(set(again)) == 60
    assert (journal.taken, journal.computed) == (50, 10)


def test_parallel_calls_go_on_whatever_their_batches_were(client: Client, tmp_path: Path):
    with journalled(tmp_path), parallel_config(BalancedBackend(client)):
        results = Parallel()(delayed(token)(number) for number in range(3000))
    with journalled(tmp_path) as journal, parallel_config(BalancedBackend(client)):
        assert Parallel()(delayed(token)(number) for number in range(3010))[:3000] == results
    assert (journal.taken, journal.computed) == (3000, 10)
    with journalled(tmp_path) as journal, parallel_config(BalancedBackend(client)):
        generator = Parallel(return_as="generator")(delayed(token)(number) for number in range(3000))
        assert list(generator) == results
    assert journal.computed == 0


def test_what_was_finished_before_an_error_is_kept_and_the_error_is_not(client: Client, tmp_path: Path):
    for least in (0, 10):
        with journalled(tmp_path) as journal, parallel_config(BalancedBackend(client)):
            with pytest.raises(ValueError, match="planned"):
                Parallel(pre_dispatch="all")(delayed(fails_at_30)(number) for number in range(40))
            assert journal.taken >= least


def test_edited_functions_and_changed_data_are_computed(client: Client, tmp_path: Path):
    def made(factor: int) -> Callable[[int], int]:
        return lambda number: number * factor

    for factor in (2, 3, 2):
        with journalled(tmp_path):
            assert list(balanced_map(made(factor), range(20), client)) == [number * factor for number in range(20)]
    data = np.arange(100_000.0)
    for change in (0.0, 1.0):
        data[77] += change
        with journalled(tmp_path) as journal:
            assert list(balanced_map(partial(np.dot, data), [data], client)) == [float(data @ data)]
        assert journal.taken == 0


def test_the_run_says_what_it_took_and_what_it_could_not(client: Client, tmp_path: Path):
    with journalled(tmp_path):
        list(balanced_map(token, range(20), client))
    told: list[str] = []
    with journalled(tmp_path, told):
        list(balanced_map(token, range(10, 30), client))
    assert told == [
        f"10 of 20 results came from {tmp_path / JOURNAL}; 10 that are in it are of other calls, code or data"
    ]


def reads(path: str, _number: int) -> str:
    return (Path(path) / "data.txt").read_text()


def test_calls_that_read_files_are_computed_each_time(client: Client, tmp_path: Path):
    for content in ("old", "new"):
        (tmp_path / "data.txt").write_text(content)
        told: list[str] = []
        with journalled(tmp_path, told) as journal:
            assert list(balanced_map(partial(reads, str(tmp_path)), range(3), client)) == [content] * 3
        assert journal.taken == 0
        assert len([line for line in told if f"a call opens {tmp_path}/data.txt; nobody can say" in line]) == 1


def test_calls_that_are_sent_names_alone_are_computed_each_time(client: Client, tmp_path: Path):
    (tmp_path / "data.txt").write_text("content")
    future = client.submit(pow, 2, 3)
    for argument, word in (
        (str(tmp_path / "data.txt"), "name of the file"),
        (tmp_path, "the path"),
        ([future], "Dask"),
    ):
        told: list[str] = []
        with journalled(tmp_path, told) as journal:
            list(balanced_map(token, [argument], client))
        assert journal.doubtful == 1
        assert word in told[0]


def test_python_tells_what_a_thread_opens(tmp_path: Path):
    (tmp_path / "data").write_text("content")
    with noted() as opened:
        time.tzset()
        import colorsys  # noqa: F401 - code is no data

        with open("/proc/self/status") as file:  # noqa: PTH123
            file.read()
        assert opened == []
        np.fromfile(tmp_path / "data", np.uint8)
        (tmp_path / "data").read_text()
    assert opened == [f"opens {tmp_path / 'data'}"]
    with noted() as opened:
        subprocess.run(["true"], check=True)
    assert opened == ["starts the program true"]


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    features, classes = make_classification(300, random_state=0)
    return features, classes


SEARCH = {"C": [0.1, 1, 10], "kernel": ["rbf", "linear"]}


def searched(features: np.ndarray, classes: np.ndarray) -> Any:
    found = GridSearchCV(SVC(random_state=0), SEARCH, cv=3).fit(features, classes).cv_results_
    return {name: np.asarray(found[name]).tolist() for name in found if "time" not in name}


def scored(features: np.ndarray, classes: np.ndarray) -> Any:
    return cross_val_score(DecisionTreeClassifier(random_state=0), features, classes, cv=5).tolist()


def grown(features: np.ndarray, classes: np.ndarray) -> Any:
    return RandomForestClassifier(30, random_state=0).fit(features, classes).predict_proba(features).tolist()


@pytest.mark.parametrize(("work", "calls"), [(searched, 18), (scored, 5), (grown, 30)])
def test_plain_scikit_learn_is_kept(client: Client, tmp_path: Path, samples: Any, work: Callable[..., Any], calls: int):
    undisturbed = work(*samples)
    told: list[str] = []
    with journalled(tmp_path, told), parallel_config(BalancedBackend(client)):
        assert work(*samples) == undisturbed
    with journalled(tmp_path) as journal, parallel_config(BalancedBackend(client)):
        assert work(*samples) == undisturbed
    assert told == []
    assert (journal.taken, journal.computed) == (calls, 0)


def test_forests_without_a_seed_are_grown_anew(client: Client, tmp_path: Path, samples: Any):
    trees = []
    for _ in range(2):
        with journalled(tmp_path) as journal, parallel_config(BalancedBackend(client)):
            forest = RandomForestClassifier(5, max_depth=2).fit(*samples)
            trees.append([tree.random_state for tree in forest.estimators_])
        assert journal.taken == 0
    assert trees[0] != trees[1]


@pytest.mark.parametrize(
    "job",
    [
        Forest(trees=60),
        GridSearch(samples=200),
        AsianOption(paths=20_480),
        AsianOption(standard_error=0.35),
    ],
    ids=["forest", "grid-search", "paths", "error"],
)
def test_jobs_are_kept(client: Client, tmp_path: Path, job: Any):
    def figures(result: Any) -> Any:
        found = result.to_json()
        found.pop("cv_results", None)
        return found

    undisturbed = figures(job.run(client))
    with journalled(tmp_path):
        job.run(client)
    with journalled(tmp_path) as journal:
        assert figures(job.run(client)) == undisturbed
    assert (journal.computed, journal.doubtful) == (0, 0)
    assert (tmp_path / JOURNAL).stat().st_size < 1_000_000


# The command line.

SCRIPT = """
import os, sys, time
import joblib
from helpers import triple
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier
from tritoncluster.submit import local_path

OFFSET = int(local_path("offset.txt").read_text())

def slow(number):
    time.sleep(0.02)
    os.mkdir(f"{MADE}/{number}-{os.getpid()}-{time.time_ns()}")
    return triple(number) + OFFSET

MADE = sys.argv[1]
samples, classes = make_classification(200, random_state=0)
with joblib.parallel_config("balanced"):
    print(sum(joblib.Parallel()(joblib.delayed(slow)(number) for number in range(int(sys.argv[2])))))
    print(ExtraTreesClassifier(20, random_state=0).fit(samples, classes).predict_proba(samples).sum(axis=0).tolist())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helpers.py").write_text("def triple(number):\n    return 3 * number\n")
    (tmp_path / "offset.txt").write_text("1")
    return tmp_path


def submit(folder: Path, *options: str, calls: int = 300) -> subprocess.CompletedProcess[str]:
    words = ["--workers", "2", "--with", "offset.txt", "script.py", str(folder / "made"), str(calls)]
    return tritoncluster(folder, "submit", *options, *words)


def made(folder: Path) -> list[int]:
    """Give the calls that were made, by their numbers."""
    return sorted(int(each.name.split("-")[0]) for each in (folder / "made").iterdir())


def test_killed_script_goes_on(folder: Path):
    # So many that it is not at its end when it is killed.
    calls = 700
    words = ["submit", "--workers", "2", "--with", "offset.txt", "script.py", str(folder / "made"), f"{calls}"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as killed:
        while len(made(folder)) < 150:
            time.sleep(0.05)
        time.sleep(2)
        # The program itself, not who watches it.
        (child,) = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(killed.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(child), signal.SIGKILL)
        _, errors = killed.communicate(timeout=200)
    # What follows are words of Python's own, on the processes that the killed one has left.
    found = re.search(
        r"^tritoncluster: the program was killed .*; go on with '(tritoncluster submit .*)'$", errors, re.MULTILINE
    )
    assert found, errors
    before = made(folder)
    words = shlex.split(found[1])[1:]
    done = tritoncluster(folder, *words)
    assert done.returncode == 0, done.stderr
    taken = re.search(rf"(\d+) of {calls + 20} results came from", done.stderr)
    assert taken, done.stderr
    assert int(taken[1]) >= 100
    # Nothing that was committed is computed again.
    assert len(made(folder)) - len(before) <= calls - min(int(taken[1]), calls) + 4
    assert done.stdout.splitlines()[0] == str(3 * sum(range(calls)) + calls)
    # Once more: all of it is there, and what comes out is the same.
    count = len(made(folder))
    again = tritoncluster(folder, *words)
    assert again.stdout == done.stdout
    assert f"{calls + 20} of {calls + 20} results came from" in again.stderr
    assert len(made(folder)) == count


#: Says when some calls have been made.
SLOW = """
import os, sys, time
from distributed import Client
from tritoncluster.balance import balanced_map

MADE = sys.argv[1]

def square(number):
    os.mkdir(f"{MADE}/{number}-{time.time_ns()}")
    time.sleep(0.05)
    return number * number

total = 0
for count, value in enumerate(balanced_map(square, range(150), Client())):
    total += value
    if count == 60:
        print("sixty", flush=True)
print("total", total)
"""


def test_interrupted_script_goes_on_with_the_command_of_its_last_line(folder: Path):
    (folder / "slow.py").write_text(SLOW)
    stopped = interrupt(folder, "submit", "--workers", "2", "slow.py", str(folder / "made"), when="sixty")
    assert stopped.status == 130, stopped.output
    assert stopped.left == []
    found = re.search(r"go on with '(tritoncluster submit [^']*)'$", stopped.output.strip())
    assert found, stopped.output
    before = len(made(folder))
    done = tritoncluster(folder, *shlex.split(found[1])[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"total {sum(number * number for number in range(150))}"
    taken = re.search(r"(\d+) of 150 results came from", done.stderr)
    assert taken, done.stderr
    assert int(taken[1]) >= 60
    # Slow ones may be made twice at a time.
    assert len(made(folder)) - before <= 150 - int(taken[1]) + 4


@pytest.mark.slow
def test_changed_files_of_a_script_are_told_and_all_is_computed(folder: Path):
    first = submit(folder, "--resume", "kept", calls=20)
    assert first.returncode == 0, first.stderr
    (folder / "offset.txt").write_text("2")
    second = submit(folder, "--resume", "kept", calls=20)
    assert second.stdout.splitlines()[0] == str(3 * sum(range(20)) + 40)
    assert "was made with another offset.txt: what it has is computed again" in second.stderr
    # An item that is late may be computed twice.
    assert len(made(folder)) >= 40


def test_script_that_ends_well_leaves_nothing_unless_it_has_a_folder(folder: Path):
    done = submit(folder, calls=5)
    assert done.returncode == 0, done.stderr
    assert not (folder / "results").exists()
    (folder / "script.py").write_text("raise SystemExit(3)")
    assert "go on with" not in submit(folder).stderr


@pytest.mark.slow
def test_failed_run_is_gone_on_with(tmp_path: Path):
    sizes = ["--trees", "50", "--workers", "2"]
    done = tritoncluster(tmp_path, "run", "forest", *sizes, "--resume", "new")
    assert done.returncode == 0, done.stderr
    result = (tmp_path / "new" / "result.json").read_text()
    again = tritoncluster(tmp_path, "run", "forest", *sizes, "--resume", "new")
    assert again.returncode == 0, again.stderr
    assert f"50 of 50 results came from new/{JOURNAL}" in again.stdout
    found = (tmp_path / "new" / "result.json").read_text()
    accuracy = re.compile(r'"test_accuracy": [\d.]+')
    assert accuracy.findall(found) == accuracy.findall(result)
    other = tritoncluster(tmp_path, "run", "forest", "--trees", "60", "--resume", "new")
    assert other.returncode == 2
    assert "has the result of another run, which is finished; name another folder" in other.stderr
    assert (tmp_path / "new" / "result.json").read_text() == found
