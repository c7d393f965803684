"""The arithmetic itself, against known answers: a machine that multiplies wrongly does so in silence.

Seen with emulated processors whose kernels of the numerical libraries are wrong, and on machines with bad memory.
"""

import asyncio
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cloudpickle

from tritoncluster.doctor.finding import Finding, count, fine, wrong

#: Of PCG64 from SeedSequence(1459, spawn_key=(7,)): the first normal, the last of 1,000, and their sum, as float.hex.
STREAM = ("-0x1.ff6836f5ca5e4p-3", "0x1.3ea778596c16ep+1", "0x1.11b103e0f4492p+5")
#: What a decision tree and a support vector machine, fitted on the first 500 of scikit-learn's digits, predict of the
#: next 60.
TREE = "922878248849099804294517290653406789012540678905506005922467"
VECTORS = "822579548849089801294567890223456789022245678909556509898417"


async def calculate() -> dict[str, Any]:
    """Compute on a worker, beside its tasks and with its event loop free, what `judge` knows the answers to."""
    return await asyncio.to_thread(_calculate)


def _calculate() -> dict[str, Any]:
    import numpy as np
    import scipy.linalg.blas
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
        "errors": {name: float(abs(error).max()) for name, error in errors.items()},
        "stream": tuple(float(value).hex() for value in (normals[0], normals[-1], math.fsum(normals))),
        "tree": "".join(map(str, tree)),
        "vectors": "".join(map(str, vectors)),
        # NumPy and SciPy bring a library of the same name each.
        "threads": sorted({(pool["prefix"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()}),
    }


def judge(answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Compare with the known answers what `calculate` gave, worker's name -> that."""
    found = False
    for worker, answer in answers.items():
        seen = [f"product of matrices ({name}) off by {error:g}" for name, error in answer["errors"].items() if error]
        if tuple(answer["stream"]) != STREAM:
            seen.append("another random stream")
        seen += [
            f"{_differing(said, known)} of {len(known)} predictions of a {name} differ"
            for name, said, known in (
                ("decision tree", answer["tree"], TREE),
                ("support vector machine", answer["vectors"], VECTORS),
            )
            if said != known
        ]
        if seen:
            found = True
            yield wrong(
                "arithmetic",
                worker,
                "; ".join(seen),
                "take it out of the cluster; under QEMU set QEMU_CPU=cortex-a72, on a real machine test its memory",
            )
    if answers and not found:
        yield fine("arithmetic", f"products, random stream and fits are right on {count(len(answers), 'worker')}")


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


def _differing(said: Iterable[str], known: Iterable[str]) -> int:
    return sum(a != b for a, b in zip(said, known, strict=False))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
