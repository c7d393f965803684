"""Records of runs that never were, with results of the right shape: for tests of what is made of them."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid

from tritoncluster.balance import Share, Summary
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import ForestResult
from tritoncluster.jobs.grid_file import POSTER_GRID
from tritoncluster.jobs.grid_search import GridSearchResult
from tritoncluster.montecarlo import Sums, simulate_blocks
from tritoncluster.record import Record, Span, Worker

WORKERS = [Worker("0", "x86_64", 1, 2**30), Worker("pi-3", "aarch64", 4, 0)]
SPANS = [
    Span("0", 11, "parallel_build_trees", "transfer", 0.1, 0.2),
    Span("0", 11, "parallel_build_trees", "compute", 0.2, 4.0),
    Span("pi-3", 21, "predict_rows", "compute", 1.0, 3.0),
]


def forest(trees: int = 50, **changes: Any) -> Record:
    stream = np.random.default_rng(0)
    truth = stream.integers(0, 10, 40).astype(np.uint8)
    votes = np.where(stream.random((trees, 40)) < 0.7, truth, stream.integers(0, 10, (trees, 40))).astype(np.uint8)
    return record("forest", {"trees": trees, "seed": 0}, ForestResult(votes, truth), **changes)


def grid_search(grid: dict[str, list[Any]] | None = None, *, failed: tuple[int, ...] = (), **changes: Any) -> Record:
    candidates = list(ParameterGrid(grid or POSTER_GRID))
    stream = np.random.default_rng(0)
    scores = stream.uniform(0.5, 0.9, len(candidates))
    scores[list(failed)] = np.nan
    table = pd.DataFrame(
        {
            "params": candidates,
            "mean_test_score": scores,
            "std_test_score": 0.01,
            "split0_test_score": scores,
            "mean_fit_time": stream.exponential(1, len(candidates)),
        }
    )
    parameters = {"samples": 200, "cv": 3, "grid": "grid.yaml" if grid else None}
    return record("grid-search", parameters, GridSearchResult(table, 0.9, [0, 1, 0, 1, 1]), **changes)


def asian_option(paths: int = 5000, **option: Any) -> Record:
    job = AsianOption(paths=paths, **option)
    sizes = [1024] * (paths // 1024) + [paths % 1024]
    sums = Sums()
    sums.add(*simulate_blocks(job.model, 0, 0, [size for size in sizes if size]))
    parameters = {name: getattr(job, name) for name in ("paths", "spot", "strike", "drift", "volatility", "days")}
    return record("asian-option", parameters, job.result(sums))


def summary(name: str) -> Summary:
    share = Share(1, [(0.0, None)], items=50, chunks=8, work=50.0, busy=3.9)
    return Summary(name, seconds=4.0, work=50.0, shares={"0": share})


def record(job: str, parameters: dict[str, Any], result: Any, **changes: Any) -> Record:
    run: dict[str, Any] = {
        "job": job,
        "parameters": parameters,
        "started": datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        "seconds": 5.0,
        "address": "tls://10.0.0.1:8786",
        "workers": WORKERS,
        "versions": {"python": "3.13.1", "dask": "2026.1"},
        "result": result,
        "spans": SPANS,
    }
    return Record(**run | changes)
