"""A grid search over support vector classifiers: fits of very unequal length."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from distributed import Client
from joblib import parallel_config
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.svm import SVC

from tritoncluster.balance import BalancedBackend, Result, Sharing, balanced_map
from tritoncluster.errors import InputError, JobStoppedError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.jobs.grid_file import POSTER_GRID, read_grid
from tritoncluster.jobs.parameters import check_limits, parameter

if TYPE_CHECKING:
    from tritoncluster.record import Record
    from tritoncluster.report.content import JobPage

#: Samples whose classes are predicted in one call.
ROWS_PER_CALL = 100


@dataclass(frozen=True)
class GridSearchResult:
    """What the search found.

    Parameters
    ----------
    cv_results
        One row a candidate that has been fitted on every fold, with scikit-learn's columns.
    score
        Accuracy on all samples of the best candidate, fitted on all of them; None when the search was stopped before.
    predict_head
        That model's classes for the first five samples.
    """

    cv_results: pd.DataFrame
    score: float | None = None
    predict_head: list[int] | None = None

    @property
    def best(self) -> pd.Series:
        """The first of the candidates with the highest mean score."""
        return self.cv_results.iloc[int(np.nanargmax(self.cv_results["mean_test_score"].to_numpy()))]

    @property
    def headline(self) -> str:
        """The most important of it in one sentence."""
        best = ", ".join(f"{name}={value}" for name, value in self.best["params"].items())
        text = f"best of {len(self.cv_results)} candidates is {best} with a mean score of "
        return f"{text}{self.best['mean_test_score']:.4f}"

    def to_json(self) -> dict[str, Any]:
        """Give the job's fields of `result.json`."""
        return {
            "score": self.score,
            "predict_head": self.predict_head,
            "best_params": self.best["params"],
            "best_score": float(self.best["mean_test_score"]),
            "cv_results": self.cv_results.to_dict(orient="list"),
        }


@dataclass(frozen=True, kw_only=True)
class GridSearch(Job):
    """Search a grid of support vector classifiers for the best one by cross-validation."""

    name: ClassVar[str] = "grid-search"
    about: ClassVar[str] = (
        "Each combination of parameters of a support vector classifier is fitted and tested on several splits of the "
        "data. Some fits take many times as long as others."
    )
    tasks: ClassVar[Mapping[str, str]] = {
        "fit_and_score": "fit and score a fold",
        "fit": "final fit",
        "predict_rows": "predict",
    }

    samples: int = parameter(20_000, minimum=10, demo=2_000, help="Samples to classify.")
    cv: int = parameter(3, minimum=2, help="Folds of the cross-validation.")
    grid: str | None = parameter(
        None,
        file=True,
        help="YAML or JSON file with a list of values for each parameter of SVC; the poster's 48 candidates if none.",
    )

    def check(self) -> None:
        """Raise InputError for a grid, or a number of folds, that can't be fitted."""
        check_limits(self)
        _ = self.candidates
        smallest = np.bincount(self.data[1]).min()
        if self.cv > smallest:
            raise InputError(f"--cv must be at most {smallest}, the samples in the smaller class, not {self.cv}")

    @cached_property
    def candidates(self) -> dict[str, list[Any]]:
        """The values to try, by parameter."""
        return POSTER_GRID if self.grid is None else read_grid(Path(self.grid))

    @cached_property
    def data(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Samples, shape (samples, 20), and their classes, shape (samples,)."""
        features, classes = make_classification(n_samples=self.samples, random_state=0)
        return features, classes

    def estimator(self) -> GridSearchCV:
        """Give the search, which leaves the final fit to its caller."""
        model = SVC(gamma="auto", random_state=0)
        return GridSearchCV(model, self.candidates, cv=self.cv, refit=False)

    def run(self, client: Client, progress: Progress = silent) -> GridSearchResult:
        """Fit all candidates on the cluster through joblib, then the best one on all samples, and score that."""
        features, classes = self.data
        fits = len(ParameterGrid(self.candidates)) * self.cv
        search = self.estimator()
        outcomes: dict[int, Any] = {}

        def on_result(result: Result) -> None:
            outcomes[result.item] = result.results[0]
            progress("fits", len(outcomes), fits)

        with Sharing(client) as sharing:
            backend = BalancedBackend(client, sharing=sharing, on_result=on_result)
            try:
                with parallel_config(backend):
                    search.fit(features, classes)
                predicted = self._refit_and_predict(client, search, sharing, progress)
            except (KeyboardInterrupt, Exception) as error:
                raise JobStoppedError(self._finished(search, outcomes)) from error
        score = float((predicted == classes).mean())
        return GridSearchResult(pd.DataFrame(search.cv_results_), score, predicted[:5].tolist())

    def run_with_joblib(self) -> float:
        """Search, fit and score as scikit-learn does it."""
        features, classes = self.data
        return float(self.estimator().set_params(refit=True).fit(features, classes).score(features, classes))

    @classmethod
    def page(cls, result: GridSearchResult, record: "Record") -> "JobPage":
        """Draw scores, how unequal the fits are, and the best."""
        from tritoncluster.jobs.grid_search import page

        return page.of(result, record)

    def _refit_and_predict(
        self, client: Client, search: GridSearchCV, sharing: Sharing, progress: Progress
    ) -> NDArray[np.int64]:
        # On workers, where the samples are already; scikit-learn would do both in this process alone.
        features, classes = self.data
        progress("final fit", 0, 1)
        best = clone(search.estimator).set_params(**search.best_params_)
        (model,) = balanced_map(partial(_fit, features, classes), [best], client, sharing=sharing)
        progress("final fit", 1, 1)
        predict = partial(_predict_rows, model, features)
        parts = []
        for part in balanced_map(predict, range(0, self.samples, ROWS_PER_CALL), client, sharing=sharing):
            parts.append(part)
            progress("predicted samples", min(self.samples, len(parts) * ROWS_PER_CALL), self.samples)
        return np.concatenate(parts)

    def _finished(self, search: GridSearchCV, outcomes: dict[int, Any]) -> GridSearchResult | None:
        candidates = list(ParameterGrid(self.candidates))
        rows = [range(row * self.cv, (row + 1) * self.cv) for row in range(len(candidates))]
        whole = [row for row, folds in enumerate(rows) if all(fold in outcomes for fold in folds)]
        if not whole:
            return None
        found = [outcomes[fold] for row in whole for fold in rows[row]]
        table = search._format_results([candidates[row] for row in whole], self.cv, found)  # noqa: SLF001 - the
        # table that fit() makes of the same outcomes
        return GridSearchResult(pd.DataFrame(table))


def _fit(features: NDArray[np.float64], classes: NDArray[np.int64], model: SVC) -> SVC:
    return model.fit(features, classes)


def _predict_rows(model: SVC, features: NDArray[np.float64], start: int) -> NDArray[np.int64]:
    return np.asarray(model.predict(features[start : start + ROWS_PER_CALL]))
