"""A random forest on the handwritten digits: many short fits of equal length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from distributed import Client
from joblib import parallel_config
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from tritoncluster.balance import BalancedBackend, Call, Result, Sharing
from tritoncluster.errors import JobStoppedError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.jobs.parameters import check_limits, parameter

if TYPE_CHECKING:
    from tritoncluster.record import Record
    from tritoncluster.report.content import JobPage


@dataclass(frozen=True)
class ForestResult:
    """What the forest makes of the test set.

    Parameters
    ----------
    votes
        The class that each tree gives each test sample, shape (trees, samples).
    truth
        The samples' classes, shape (samples,).
    """

    votes: NDArray[np.uint8]
    truth: NDArray[np.uint8]

    def predict(self, trees: int | None = None) -> NDArray[np.intp]:
        """Give the majority of the first `trees` trees for each sample, shape (samples,).

        scikit-learn averages the trees' probabilities. Fully grown trees have pure leaves, so the average of their
        probabilities is their share of the votes; the smaller class wins a tie in both.
        """
        counts = np.stack([(self.votes[:trees] == label).sum(axis=0) for label in range(self.truth.max() + 1)])
        return counts.argmax(axis=0)

    @property
    def test_accuracy(self) -> float:
        """The share of test samples that the whole forest gets right."""
        return float((self.predict() == self.truth).mean())

    def accuracy_over_trees(self, points: int = 60) -> tuple[list[int], list[float]]:
        """Give numbers of trees, spread evenly on a logarithmic scale, and the accuracy of the first so many."""
        sizes = np.unique(np.geomspace(1, len(self.votes), points).astype(int)).tolist()
        return sizes, [float((self.predict(size) == self.truth).mean()) for size in sizes]

    def confusion(self) -> NDArray[np.int64]:
        """Count test samples by class (rows) and prediction (columns)."""
        return np.asarray(confusion_matrix(self.truth, self.predict()))

    @property
    def headline(self) -> str:
        """The most important of it in one sentence."""
        return f"{len(self.votes):,} trees get {self.test_accuracy:.2%} of the test digits right"

    def to_json(self) -> dict[str, Any]:
        """Give the job's fields of `result.json`."""
        return {"trees": len(self.votes), "test_accuracy": self.test_accuracy}


@dataclass(frozen=True, kw_only=True)
class Forest(Job):
    """Fit a random forest on handwritten digits and test it on a quarter of them."""

    name: ClassVar[str] = "forest"
    title: ClassVar[str] = "random forest"
    about: ClassVar[str] = (
        "Many decision trees, each grown from a random sample of handwritten digits, vote on digits that none of them "
        "has seen. All trees take about the same time."
    )
    posters_size: ClassVar[Mapping[str, Any]] = {"trees": 8000}
    tasks: ClassVar[Mapping[str, str]] = {"parallel_build_trees": "grow trees"}

    trees: int = parameter(8000, minimum=1, demo=3000, help="Trees in the forest.")
    seed: int = parameter(0, minimum=0, help="Seed of the split and of the trees.")

    def check(self) -> None:
        """Raise InputError for parameters outside their limits."""
        check_limits(self)

    def data(self) -> list[NDArray[Any]]:
        """Give training and test samples, shape (samples, 64), then their classes, shape (samples,)."""
        digits = load_digits()
        return list(train_test_split(digits.data, digits.target, test_size=0.25, random_state=self.seed))

    def estimator(self) -> RandomForestClassifier:
        """Give the unfitted forest."""
        return RandomForestClassifier(n_estimators=self.trees, random_state=self.seed)

    def run(self, client: Client, progress: Progress = silent) -> ForestResult:
        """Fit on the cluster through joblib; each tree votes on the worker that grew it."""
        train, test, train_classes, test_classes = self.data()
        truth = test_classes.astype(np.uint8)
        votes: dict[int, NDArray[np.uint8]] = {}

        def on_result(result: Result) -> None:
            votes[result.item] = result.extra
            progress("trees", len(votes), self.trees)

        def finished() -> ForestResult:
            return ForestResult(np.concatenate([votes[tree] for tree in sorted(votes)]), truth)

        with Sharing(client) as sharing:
            voting: Call = (vote, (test, np.unique(train_classes)), {})
            # Of a journal's 50 kB a tree, 49 would be the trees, which nobody uses: they have voted.
            backend = BalancedBackend(
                client, sharing=sharing, afterwards=voting, keep_results=False, on_result=on_result
            )
            try:
                with parallel_config(backend):
                    self.estimator().fit(train, train_classes)
            except (KeyboardInterrupt, Exception) as error:
                raise JobStoppedError(finished() if votes else None) from error
        return finished()

    def run_with_joblib(self) -> float:
        """Fit and test as scikit-learn does it."""
        train, test, train_classes, test_classes = self.data()
        return float(self.estimator().fit(train, train_classes).score(test, test_classes))

    @classmethod
    def page(cls, result: ForestResult, record: "Record") -> "JobPage":
        """Draw how the accuracy grows with the trees, and what is taken for what."""
        from tritoncluster.jobs.forest import page

        return page.of(result, record)

    @classmethod
    def posters_steps(cls) -> list[tuple[int, float]]:
        """Give cores and seconds of the poster's five clusters."""
        from tritoncluster.jobs.forest.page import FOREST_TIMES

        return [(int(cores), float(seconds)) for _machines, cores, seconds in FOREST_TIMES[1:]]


def vote(trees: list[DecisionTreeClassifier], samples: NDArray[np.float64], classes: NDArray[Any]) -> NDArray[np.uint8]:
    """Let each tree classify each sample, shape (trees, samples); runs on a worker."""
    # What trees take is single precision, and a forest's trees know classes by their index.
    samples = samples.astype(np.float32)
    return np.stack([classes[tree.predict(samples, check_input=False).astype(int)] for tree in trees]).astype(np.uint8)
