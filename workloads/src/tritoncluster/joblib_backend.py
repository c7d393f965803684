"""joblib's parallel calls on the cluster: what lets scikit-learn fit there without a change.

joblib brings a backend for Dask. This one differs where a job of ours needs it: work runs on the cluster even when
there is one worker; a lost scheduler or a worker that dies again and again ends the call with an error (joblib's would
wait for ever, or return the exception as a result); progress is reported; and results can stay on the workers that
made them, for later steps to run where the data is.
"""

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import cloudpickle
import dask.config
from dask.sizeof import sizeof
from distributed import Client, Future
from joblib import parallel_config
from joblib.parallel import ParallelBackendBase

from tritoncluster.errors import ClusterLostError
from tritoncluster.tasks import cancel

# Smaller arguments travel with the task: a reference to data on a worker costs about as much.
SHARED_BYTES = 10_000


class ClusterBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A joblib backend that runs batches of calls as Dask tasks.

    Parameters
    ----------
    client
        Whose cluster to use.
    batch_size
        Calls in a task.
    on_finished
        Called with the number of calls of each batch that finished.

    Attributes
    ----------
    futures : list of distributed.Future
        One a batch, in the order of submission. They are kept, and with them the results on the workers, until
        `release`. A result is a list with one item a call.
    results : list of list or None
        The same results on this side; None where a batch has not finished.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self, client: Client, *, batch_size: int = 1, on_finished: Callable[[int], None] = lambda _calls: None
    ) -> None:
        super().__init__()
        self.client = client
        self.batch_size = batch_size
        self.on_finished = on_finished
        self.futures: list[Future[Any]] = []
        self.results: list[list[Any] | None] = []
        self._shared: dict[int, tuple[Any, Future[Any]]] = {}
        self._run = uuid4().hex[:8]
        self._aborted = threading.Event()

    def share(self, argument: Any) -> Future[Any]:
        """Make `argument` known to the cluster, unless that was done, and give the reference to it.

        The same object in a later call becomes the same reference: each worker gets it once.
        """
        if id(argument) not in self._shared:
            # A task, where Dask would advise scatter(): scattered data is gone for good with the last worker that has
            # it, while a task is computed again. Hence also no warning that the task is large.
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
                future = self.client.submit(_value, argument, key=f"argument-{self._run}-{len(self._shared)}")
            # The argument is held too, so that its id is not given to another object.
            self._shared[id(argument)] = argument, future
        return self._shared[id(argument)][1]

    def release(self) -> None:
        """Let go of all results and data on the workers."""
        self.futures.clear()
        self._shared.clear()

    # What joblib calls.

    def effective_n_jobs(self, n_jobs: int) -> int:  # noqa: ARG002 - the cluster's size counts, not the caller's wish
        """Count the cluster's threads; at least 2, because joblib does not ask a backend to run anything for 1."""
        return max(2, sum(self.client.nthreads().values()))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        """Take on a `joblib.Parallel` call."""
        self.parallel = parallel
        # All batches at once: placing them is the scheduler's work, and it knows which worker is free.
        parallel.pre_dispatch = "all"
        return self.effective_n_jobs(n_jobs)

    def compute_batch_size(self) -> int:
        """Give the number of calls in a task."""
        return self.batch_size

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Future[Any]:
        """Send one batch of calls; `callback` gets its outcome, whatever it is."""
        shared: dict[int, Future[Any]] = {}

        def by_reference(argument: Any) -> Any:
            if sizeof(argument) <= SHARED_BYTES:
                return argument
            shared[id(argument)] = self.share(argument)
            return _Shared(list(shared).index(id(argument)))

        calls = [
            (
                function,
                [by_reference(item) for item in args],
                {name: by_reference(item) for name, item in kwargs.items()},
            )
            for function, args, kwargs in func.items
        ]
        # Pickled here: Dask would take apart each call, and that would take as long as growing a tree.
        pickled = cloudpickle.dumps(calls)
        number = len(self.futures)
        key = f"{_name(func.items[0][0])}-{self._run}-{number}"
        # In the caller's order: Dask takes tasks that are submitted within a moment in any.
        future = self.client.submit(_run_calls, pickled, *shared.values(), key=key, priority=-number)
        self.futures.append(future)
        self.results.append(None)

        def finished(future: Future[Any]) -> None:
            if self._aborted.is_set():
                return
            try:
                outcome = self.results[number] = _result(future)
            except Exception as error:  # noqa: BLE001 - joblib raises it in the thread that waits
                outcome = error
            else:
                self.on_finished(len(calls))
            callback(outcome)

        future.add_done_callback(finished)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Give a batch's results to joblib, or raise what ended it."""
        if isinstance(out, Exception):
            raise out
        return out

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - joblib's signature
        """Cancel what has not finished."""
        self._aborted.set()
        cancel(self.client, [future for future in self.futures if not future.done()])


@dataclass(frozen=True)
class _Shared:
    """Stands in a pickled call for an argument that the cluster has: the one of this number."""

    number: int


def _result(future: Future[Any]) -> Any:
    if future.status == "cancelled":
        raise ClusterLostError
    return future.result()


def _value(argument: Any) -> Any:
    return argument


def _name(function: Any) -> str:
    # scikit-learn wraps what it delays.
    return str(getattr(getattr(function, "function", function), "__name__", "call")).strip("_")


def _run_calls(pickled: bytes, *shared: Any) -> list[Any]:
    def real(argument: Any) -> Any:
        return shared[argument.number] if isinstance(argument, _Shared) else argument

    calls = pickle.loads(pickled)  # noqa: S301 - from our own client, as the task itself
    # A task has one thread of its worker, and nested parallel calls stay in it.
    with parallel_config(backend="sequential"):
        return [
            function(*map(real, args), **{name: real(item) for name, item in kwargs.items()})
            for function, args, kwargs in calls
        ]
