"""Workers that are nothing alike, on containers with shares of a processor: who does how much, and what may happen."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from compose_project import JOBS, Project, assert_same, finish, result, running, wait_for

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

SHARES = (1.0, 0.25, 0.25)
CALLS = 1500
#: Calls of some milliseconds, whose results tell who made them; says when a third has come.
MAP = """
import json, socket, sys
from distributed import Client
from tritoncluster.balance import balanced_map, observed

def work(number):
    value = number
    for _ in range(60_000):
        value = (value * 1103515245 + 12345) % 2**31
    return number, value, socket.gethostname()

calls, patience = int(sys.argv[1]), float(sys.argv[2])
with observed() as summaries:
    found = []
    for each in balanced_map(work, range(calls), Client(), ordered=False, patience=patience):
        found.append(each)
        if len(found) == calls // 3:
            print("third", flush=True)
print(json.dumps({"found": found, "workers": summaries[0].to_json()["workers"]}))
"""
#: What scikit-learn finds with the workers, and what it finds alone.
ESTIMATORS = """
import numpy as np
from distributed import Client
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_halving_search_cv
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.svm import SVC

X, y = make_classification(300, random_state=0)
grid = {"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "poly"]}
forest = RandomForestRegressor(20, random_state=0)
works = {
    "GridSearchCV": lambda: GridSearchCV(SVC(), grid).fit(X, y).cv_results_["mean_test_score"],
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(SVC(), grid, random_state=0).fit(X, y).best_score_,
    "cross_val_score": lambda: cross_val_score(forest, X, y),
    "permutation_importance": lambda: permutation_importance(SVC().fit(X, y), X, y, random_state=0).importances,
    "RandomForestRegressor": lambda: forest.fit(X, y).predict(X),
}
with Client():
    for name, work in works.items():
        alone = work()
        with parallel_config("balanced"):
            print(name, np.array_equal(work(), alone))
"""
#: Ctrl-C in the middle of joblib's calls; then the cluster is asked for more.
INTERRUPTED = """
import time
from distributed import Client
from joblib import Parallel, delayed, parallel_config
from tritoncluster.balance import BalancedBackend

client = Client()
try:
    with parallel_config(BalancedBackend(on_result=lambda result: result.item or print("begun", flush=True))):
        Parallel()(delayed(time.sleep)(0.1) for _ in range(10_000))
except KeyboardInterrupt:
    print("interrupted")
end = time.monotonic() + 30
while any(client.processing().values()) and time.monotonic() < end:
    time.sleep(0.1)
print("left", sum(map(len, client.processing().values())))
with parallel_config("balanced"):
    print("next", sum(Parallel()(delayed(abs)(number) for number in range(-10, 0))))
"""


@pytest.fixture(scope="module")
def room(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with running("uneven", tmp_path_factory.mktemp("uneven"), WORKERS=len(SHARES)) as project:
        for name, script in (("map", MAP), ("estimators", ESTIMATORS), ("interrupted", INTERRUPTED)):
            (project.scripts / f"{name}.py").write_text(script)
        yield project


@pytest.fixture
def fast(room: Project) -> Iterator[str]:
    """Give each worker its share; the container of the fast one."""
    names = room.names("worker")
    for name, share in zip(names, SHARES, strict=True):
        set_share(name, share)
    yield names[0]
    for name in names:
        set_share(name, 1.0)
    room.wait_until_healthy(len(SHARES))


def set_share(container: str, share: float) -> None:
    docker("update", "--cpus", str(share), container)


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def hostname(container: str) -> str:
    return docker("inspect", "--format", "{{.Config.Hostname}}", container)


def start(room: Project, patience: float = 60) -> subprocess.Popen[str]:
    """Start the map, and wait until a third of its calls are answered."""
    process = room.start_workload("submit", "map.py", str(CALLS), str(patience))
    if process.stdout.readline() != "third\n":
        pytest.fail(f"{finish(process).stderr}\n{room.log()}", pytrace=False)
    return process


def end(process: subprocess.Popen[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Check the results; give who answered, in the order of the answers, and what is told of the workers."""
    done = finish(process)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(number for number, *_ in told["found"]) == list(range(CALLS))
    assert all(value == expected(number) for number, value, _ in told["found"][::100])
    return [host for *_, host in told["found"]], told["workers"]


def expected(number: int) -> int:
    """Give the result of a call of the map."""
    value = number
    for _ in range(60_000):
        value = (value * 1103515245 + 12345) % 2**31
    return value


def test_the_fast_worker_does_most_and_the_forest_is_the_same(
    room: Project, fast: str, embedded: dict[str, Any]
) -> None:
    done = room.workload("run", *JOBS["forest"], "--json", "--output", "results/forest")
    assert_same("forest", result(done), embedded["forest"])
    (part,) = json.loads(done.stdout)["balance"]
    calls = {worker["name"]: worker["calls"] for worker in part["workers"]}
    rates = {worker["name"]: worker["rate"] or 0.0 for worker in part["workers"]}
    # Without a look at their speeds it is a third for each, half of what the fast one can do where it is four times as
    # fast; on a busy machine it may be less.
    assert calls[fast] / sum(calls.values()) > 0.65 * rates[fast] / sum(rates.values())
    assert 0 < part["efficiency"] < 1.2
    assert sum(worker["calls"] - worker["repeats"] for worker in part["workers"]) == 1500


@pytest.mark.slow
def test_two_clients_share_the_workers(room: Project, fast: str, embedded: dict[str, Any]) -> None:
    both = {
        job: room.start_workload("run", *JOBS[job], "--json", "--output", f"results/both-{job}")
        for job in ("grid-search", "asian-option")
    }
    for job, process in both.items():
        assert_same(job, result(finish(process)), embedded[job])


@pytest.mark.slow
def test_a_worker_that_gets_slower_in_the_middle_gets_less(room: Project, fast: str) -> None:
    process = start(room)
    set_share(fast, 0.05)
    answered, _ = end(process)
    before, after = answered[: CALLS // 3], answered[-CALLS // 3 :]
    assert after.count(hostname(fast)) < before.count(hostname(fast)) / 2


def test_what_a_killed_worker_had_is_computed_by_others(room: Project, fast: str) -> None:
    process = start(room)
    room.kill(fast)
    _, workers = end(process)
    lost = {worker["name"]: worker["lost"] for worker in workers}
    assert lost.pop(fast) > 0
    assert not any(lost.values())


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up(room: Project, fast: str) -> None:
    process = start(room, patience=3)
    docker("pause", fast)
    try:
        answered, _ = end(process)
    finally:
        docker("unpause", fast)
    assert answered[-1] != hostname(fast)


def test_scikit_learn_finds_what_it_finds_alone(room: Project, fast: str) -> None:
    done = room.workload("submit", "estimators.py")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert len(lines) == 5
    assert set(lines.values()) == {"True"}


def test_ctrl_c_leaves_nothing_behind(room: Project, fast: str) -> None:
    process = room.start_workload("submit", "interrupted.py")
    assert process.stdout.readline() == "begun\n", finish(process).stderr
    mine = ["--filter", f"label=com.docker.compose.project={room.name}", "--filter", "status=running"]
    (container,) = docker("ps", "--quiet", *mine, "--filter", "label=com.docker.compose.oneoff=True").split()
    docker("kill", "--signal", "INT", container)
    wait_for(lambda: process.poll() is not None, 60, room.log)
    done = finish(process)
    assert done.stdout.splitlines() == ["interrupted", "left 0", "next 55"], done.stderr
