import time

import numpy as np
import pytest
from distributed import Client
from sklearn.metrics import confusion_matrix

from tritoncluster.errors import InputError
from tritoncluster.jobs.forest import Forest, ForestResult


@pytest.fixture(scope="module")
def result(client: Client) -> ForestResult:
    return Forest(trees=150, seed=1).run(client)


@pytest.fixture(scope="module")
def reference():
    """scikit-learn's own forest on this machine, and the test set."""
    job = Forest(trees=150, seed=1)
    train, test, train_classes, test_classes = job.data()
    return job.estimator().fit(train, train_classes), test, test_classes


def test_is_scikit_learns_forest(result: ForestResult, reference):
    forest, test, test_classes = reference
    assert (result.predict() == forest.predict(test)).all()
    assert result.test_accuracy == forest.score(test, test_classes)
    shares = np.stack([(result.votes == label).mean(axis=0) for label in range(10)], axis=1)
    assert shares == pytest.approx(forest.predict_proba(test))


def test_votes_keep_the_order_of_trees(result: ForestResult, reference):
    forest, test, _ = reference
    for index in (0, 77, 149):
        assert (result.votes[index] == forest.estimators_[index].predict(test)).all()


def test_accuracy_over_trees_ends_at_the_accuracy(result: ForestResult):
    sizes, accuracies = result.accuracy_over_trees()
    assert sizes[0] == 1
    assert sizes[-1] == 150
    assert accuracies[-1] == result.test_accuracy
    assert accuracies[0] < accuracies[-1]


def test_confusion(result: ForestResult, reference):
    forest, test, test_classes = reference
    assert (result.confusion() == confusion_matrix(test_classes, forest.predict(test))).all()


def test_work_runs_on_the_workers(client: Client, result: ForestResult):
    kinds = set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes)))
    assert "parallel_build_trees" in kinds


def test_seed_changes_the_forest(client: Client, result: ForestResult):
    other = Forest(trees=150, seed=2).run(client)
    assert (other.votes != result.votes).any()


def test_progress_ends_at_all_trees(client: Client):
    seen = []
    Forest(trees=37).run(client, lambda stage, done, total: seen.append((stage, done, total)))
    assert seen[-1] == ("trees", 37, 37)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


def test_nothing_stays_on_the_workers(client: Client):
    def held() -> set[str]:
        return {key for keys in client.has_what().values() for key in keys}

    others = held()  # what earlier tests' tracebacks may still refer to
    Forest(trees=20).run(client)
    deadline = time.monotonic() + 120
    while held() - others and time.monotonic() < deadline:
        time.sleep(0.1)
    assert held() <= others


@pytest.mark.parametrize("trees", [0, -5])
def test_bad_trees(trees: int):
    with pytest.raises(InputError, match=f"--trees must be at least 1, not {trees}"):
        Forest(trees=trees).check()
