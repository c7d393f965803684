"""Pieces of work for a cluster; runs in a client's container, where Python is the cluster's.

Reads orders, a JSON object a line, and answers each with a line:

- way: joblib's "balanced", "dask" or "ray"; address: the scheduler's, None for Ray; workers: how many to wait for.
- work: a key of WORKS; part: do only one in so many of its calls.
- way "graph": a work of _graphs.py as `seed` makes it, "" for its ALONE, of tasks that compute; the answer has its
  seconds alone.
- forget: whether the cluster must not know speeds from before.
- halt: say so when half is done, and note the state when a line has come in reply.

The clock starts when joblib is given the calls: what scikit-learn does before, as making 2,000 trees that are not grown
yet, is the client's alone and the same in each way.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from distributed import Client
from joblib import Parallel, parallel_config
from sklearn.model_selection import ParameterGrid

from tritoncluster.balance import BalancedBackend, observed
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch
from tritoncluster.known_speeds import METADATA


def trees(part: int, number: int = 2000) -> Callable[[], object]:
    """Give what grows a forest with joblib's current backend."""
    forest = Forest(trees=number // part)
    samples, _, classes, _ = forest.data()
    return lambda: forest.estimator().fit(samples, classes)


def grid(part: int, samples: int) -> Callable[[], object]:
    """Give what searches the poster's grid with joblib's current backend."""
    search = GridSearch(samples=samples)
    features, classes = search.data
    few = [{name: [value] for name, value in each.items()} for each in list(ParameterGrid(search.candidates))[::part]]
    return lambda: search.estimator().set_params(param_grid=few).fit(features, classes)


def paths(part: int) -> Callable[[], object]:
    """Give what simulates paths with joblib's current backend."""
    return AsianOption(paths=200_000 // part).run_with_joblib


WORKS: dict[str, Callable[[int], Callable[[], object]]] = {
    "2,000 trees": trees,
    "200,000 paths": paths,
    "grid, 2,000 samples": lambda part: grid(part, 2000),
    "grid, 8,000 samples": lambda part: grid(part, 8000),
    "6,000 trees": lambda part: trees(part, 6000),
}


def calls(work: str) -> int:
    """Give the calls of a work whose name begins with their number."""
    return int(work.split(maxsplit=1)[0].replace(",", ""))


@contextlib.contextmanager
def cluster(order: dict[str, Any]) -> Iterator[Client | None]:
    """Connect to what an order names."""
    if order["way"] == "ray":
        import ray
        from ray.util.joblib import register_ray

        if not ray.is_initialized():
            ray.init(address="auto", log_to_driver=False, logging_level="error")
            register_ray()
        while ray.cluster_resources().get("CPU", 0) < order["workers"]:
            time.sleep(0.2)
        yield None
        return
    with Client(order["address"], timeout=60) as client:
        client.wait_for_workers(order["workers"], timeout=120)
        if order["forget"]:
            client.set_metadata([METADATA], {})
        yield client


class Stopwatch:
    """Notes when joblib is first given calls, and when all is done."""

    def __enter__(self) -> Self:
        self.begin = 0.0
        self._call = Parallel.__call__

        def call(parallel: Parallel, *arguments: Any, **options: Any) -> Any:
            self.begin = self.begin or time.perf_counter()
            return self._call(parallel, *arguments, **options)

        Parallel.__call__ = call
        return self

    def __exit__(self, *_error: object) -> None:
        self.end = time.perf_counter()
        Parallel.__call__ = self._call


class Halfway:
    """Tells whoever gives orders when half of the calls are answered, and notes the state when the reply comes."""

    def __init__(self, calls: int) -> None:
        self._calls, self._answers = calls, 0
        self.when, self.left = 0.0, calls

    def count(self, _result: object) -> None:
        """Take note of an answer."""
        self._answers += 1
        if self._answers == self._calls // 2:
            print(json.dumps({"half": True}), flush=True)
            threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        sys.stdin.readline()
        self.when, self.left = time.perf_counter(), self._calls - self._answers


def graph_done(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order for a graph."""
    import _graphs
    from _tasks import burn

    graph = _graphs.WORKS[order["work"]][0](order["seed"]) if order["work"] else _graphs.ALONE
    with cluster(order) as client:
        begin = time.perf_counter()
        graph.compute(client, burn)
        return {"seconds": time.perf_counter() - begin}


def done(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order."""
    if order["way"] == "graph":
        return graph_done(order)
    work = WORKS[order["work"]](order["part"])
    halfway = Halfway(calls(order["work"])) if order["halt"] else None
    with cluster(order) as client, observed() as summaries:
        backend = BalancedBackend(client, on_result=halfway.count) if halfway else order["way"]
        with Stopwatch() as stopwatch, parallel_config(backend):
            work()
    answer: dict[str, Any] = {
        "seconds": stopwatch.end - stopwatch.begin,
        "runs": [each.to_json() for each in summaries],
    }
    if halfway:
        answer |= {"rest": stopwatch.end - halfway.when, "left": halfway.left}
    return answer


if __name__ == "__main__":
    while line := sys.stdin.readline():
        print(json.dumps(done(json.loads(line))), flush=True)
