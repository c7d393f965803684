"""What a worker does before it takes work; given to Dask as a preload module.

It imports what the jobs need, so that a job's first task is not its slowest, and leaves Ctrl-C to the client: a
terminal sends it to every process of a program, and a worker that stops by itself can no longer be told to.
"""

import signal
import threading

import sklearn.ensemble
import sklearn.model_selection
import sklearn.svm  # noqa: F401
from distributed import Worker

import tritoncluster.montecarlo  # noqa: F401


def dask_setup(_worker: Worker) -> None:
    """Ignore Ctrl-C, where this process is the worker's own."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
