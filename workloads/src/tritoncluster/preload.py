"""What a worker does before it takes work; given to Dask as a preload module.

It imports what the jobs need, so that a job's first task is not its slowest, and leaves Ctrl-C to the client: a
terminal sends it to every process of a program, and a worker that stops by itself can no longer be told to.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import numpy as np
from distributed import Worker

NEEDED = ("sklearn.ensemble", "sklearn.model_selection", "sklearn.svm", "tritoncluster.montecarlo")


@contextmanager
def without(name: str) -> Iterator[None]:
    """Have `import name` fail as where it is not installed, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # the import system's word for "there is none"
    try:
        yield
    finally:
        del sys.modules[name]


# scikit-learn imports pandas where it is installed, and looks for data frames only once a task has imported it itself:
# a fifth of the time and a third of the memory of a worker that starts, for tasks that mostly have none.
with without("pandas"):
    for module in NEEDED:
        import_module(module)


def dask_setup(_worker: Worker) -> None:
    """Ignore Ctrl-C, and draw random numbers of its own, where this process is the worker's own."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # Workers that are forked from one process would all draw the same; Python's own generator sees to it by itself.
        np.random.seed()  # noqa: NPY002 - tasks that name no generator use this one
