"""The arithmetic itself, against answers that are known or that others give: who multiplies wrongly does so in silence.

Seen with emulated processors whose kernels of the numerical libraries are wrong, and on machines with bad memory.
"""

import asyncio
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle

from tritoncluster.doctor.finding import Finding, count, fine, wrong

#: Stands beside the names of workers.
CLIENT = "client"


async def calculate() -> dict[str, Any]:
    """Compute on a worker, beside its tasks and with its event loop free, what `judge` compares."""
    return await asyncio.to_thread(compute)


def compute() -> dict[str, Any]:
    """Compute in this process what `judge` compares."""
    import numpy as np
    import scipy.linalg.blas
    import sklearn
    import threadpoolctl
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    # Whole numbers, so that every product and partial sum is exact in double and in single precision; large enough for
    # the libraries' kernels, and no multiple of what these process at a time.
    left = (np.arange(333 * 517).reshape(333, 517) * 37 % 101) - 50
    right = (np.arange(517 * 291).reshape(517, 291) * 53 % 89) - 44
    exact = left @ right  # in integers: no library
    errors = {
        "numpy, double": np.matmul(left.astype(np.float64), right.astype(np.float64)) - exact,
        "numpy, single": np.matmul(left.astype(np.float32), right.astype(np.float32)) - exact,
        "scipy, double": scipy.linalg.blas.dgemm(1.0, left.astype(np.float64), right.astype(np.float64)) - exact,
    }

    normals = np.random.Generator(np.random.PCG64(np.random.SeedSequence(1459, spawn_key=(7,)))).standard_normal(1000)

    data, labels = load_digits(return_X_y=True)
    fits = (DecisionTreeClassifier(random_state=0), SVC())
    tree, vectors = (fit.fit(data[:500], labels[:500]).predict(data[500:560]).tolist() for fit in fits)
    return {
        "versions": (np.__version__, scipy.__version__, sklearn.__version__),
        "errors": {name: float(abs(error).max()) for name, error in errors.items()},
        "stream": tuple(float(value).hex() for value in (normals[0], normals[-1], math.fsum(normals))),
        "tree": "".join(map(str, tree)),
        "vectors": "".join(map(str, vectors)),
        # NumPy and SciPy bring a library of the same name each.
        "threads": sorted({(pool["prefix"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()}),
    }


def judge(answers: Mapping[str, Mapping[str, Any]], here: Mapping[str, Any]) -> Iterator[Finding]:
    """Find wrong results among what `compute` gave.

    Products of whole numbers are right or wrong. Random streams and predictions may differ between versions of the
    packages; those of the same versions are held against what most of these have, and where no answer has more votes,
    against the client's.

    Parameters
    ----------
    answers
        Worker's name -> its answer.
    here
        The client's.
    """
    found, alone = False, set()
    nodes = {CLIENT: here, **answers}
    for node, answer in nodes.items():
        seen = [f"product of matrices ({name}) off by {error:g}" for name, error in answer["errors"].items() if error]
        peers = [other for other in nodes.values() if tuple(other["versions"]) == tuple(answer["versions"])]
        if len(peers) == 1 and node != CLIENT:
            alone.add(node)
        if tuple(answer["stream"]) != _usual([tuple(peer["stream"]) for peer in peers]):
            seen.append("another random stream than with the same packages elsewhere")
        for name, key in (("decision tree", "tree"), ("support vector machine", "vectors")):
            said, usual = answer[key], _usual([peer[key] for peer in peers])
            if said != usual:
                seen.append(f"{_differing(said, usual)} of {len(usual)} predictions of a {name} differ")
        if seen:
            found = True
            yield wrong(
                "arithmetic",
                node,
                "; ".join(seen),
                "take it out of the cluster; under QEMU set QEMU_CPU=cortex-a72, on a real machine test its memory",
            )
    if answers and not found:
        unlike = f"; fits are not compared on {count(len(alone), 'worker')} with versions of its own" if alone else ""
        yield fine("arithmetic", f"products, random stream and fits agree on {count(len(answers), 'worker')}{unlike}")


def judge_threads(answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Look for numerical libraries that run threads of their own below a worker's."""
    found = False
    for worker, answer in answers.items():
        many = [f"{library} {threads}" for library, threads in answer["threads"] if threads > 1]
        if many:
            found = True
            yield wrong(
                "numerical threads",
                worker,
                f"threads for each task: {', '.join(many)}",
                "start the worker with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 in its environment",
            )
    if answers and not found:
        yield fine("numerical threads", "one for each task")


def _usual(answers: Sequence[Any]) -> Any:
    # The client's comes first, and so does what came first among those with as many votes.
    return Counter(answers).most_common(1)[0][0]


def _differing(said: Iterable[str], known: Iterable[str]) -> int:
    return sum(a != b for a, b in zip(said, known, strict=False))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
