"""joblib's parallel calls on unlike workers: what lets scikit-learn fit there without a change.

joblib brings a backend for Dask. This one differs in what each worker is given, and where a job needs it: work runs on
the cluster even when there is one worker; a lost scheduler or a call that takes its workers down ends the job with an
error (joblib's would wait for ever, or return the exception as a result); and results are told of as they come.
"""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, get_client
from joblib import register_parallel_backend
from joblib.parallel import ParallelBackendBase

from tritoncluster.balance.pieces import Call, Sharing, name_of
from tritoncluster.balance.queue import PATIENCE
from tritoncluster.balance.run import WAIT_FOR_WORKERS, Failure, Result, Run

#: Calls that wait for a worker at any time, unless the caller limits them: the queue should see all that is left.
MAX_WAITING = 50_000


class BalancedBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A joblib backend that gives each worker of a Dask cluster what it can do.

    `joblib.parallel_config("balanced")` makes one.

    Parameters
    ----------
    client
        Whose cluster to use; by default Dask's current client.
    cost
        Gives a call's length, from its arguments, in any unit: long ones are started first.
    sharing
        Where large arguments are; by default they leave the workers when a `Parallel` object ends.
    afterwards
        A call (function, arguments, keyword arguments) that is made on the worker after each call, with its result in a
        list as the first argument.
    on_result
        Told of each result, in the order in which they come, also of those that joblib does not give to its caller
        because of a later error.
    patience
        Seconds before which no piece is overdue.
    wait_for_workers_timeout
        Seconds to wait when there is no worker.
    nesting_level
        joblib's.

    Raises
    ------
    ValueError
        When there is no client.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        client: Client | None = None,
        *,
        cost: Callable[..., float] | None = None,
        sharing: Sharing | None = None,
        afterwards: Call | None = None,
        on_result: Callable[[Result], None] = lambda _result: None,
        patience: float = PATIENCE,
        wait_for_workers_timeout: float = WAIT_FOR_WORKERS,
        nesting_level: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        self.client = client or _default_client()
        self.cost, self.afterwards, self.on_result = cost, afterwards, on_result
        self.patience, self.wait_for_workers = patience, wait_for_workers_timeout
        self._sharing = sharing or Sharing(self.client)
        self._own_sharing = sharing is None
        self._run: Run | None = None
        self._callbacks: list[Callable[[Any], None] | None] = []

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Count the cluster's threads; at least 2, because joblib does not ask a backend to run anything for 1."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return max(2, sum(self.client.nthreads().values()))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        """Take on a `joblib.Parallel` object."""
        self.parallel = parallel
        if str(parallel.pre_dispatch).replace(" ", "") == "2*n_jobs":  # joblib's default
            parallel.pre_dispatch = MAX_WAITING
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        """Prepare for a call of the `Parallel` object."""
        self._end_run()

    def compute_batch_size(self) -> int:
        """Give 1: the queue makes the pieces."""
        return 1

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Take in calls; `callback` gets their results, or the error that ended the run."""
        if self._run is None:
            run = self._run = Run(
                self.client,
                name_of(func.items[0][0]),
                self._sharing,
                afterwards=self.afterwards,
                patience=self.patience,
                wait_for_workers=self.wait_for_workers,
            )
            self._callbacks = []
            # Not in Dask's event loop: what is told of a result may ask Dask something.
            threading.Thread(
                target=self._tell, args=(run, self._callbacks), name="balanced results", daemon=True
            ).start()
        self._callbacks.append(callback)
        length = sum(self.cost(*args, **kwargs) for _, args, kwargs in func.items) if self.cost else len(func.items)
        self._run.add(func.items, length)
        return callback

    def retrieve_result_callback(self, out: Any) -> Any:
        """Give results to joblib, or raise what ended the run."""
        if isinstance(out, BaseException):
            raise out
        return out

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Wait for results: all calls that joblib makes at first have been submitted."""
        if self._run:
            self._run.start()
        yield

    def stop_call(self) -> None:
        """End a call of the `Parallel` object."""
        self._end_run()

    def terminate(self) -> None:
        """End the `Parallel` object: let go of its arguments."""
        self._end_run()
        if self._own_sharing:
            self._sharing.release()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - joblib's signature
        """Cancel what has not finished."""
        self._end_run()

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run:
            run.end()

    def _tell(self, run: Run, callbacks: list[Callable[[Any], None] | None]) -> None:
        while outcome := run.outcome():
            if isinstance(outcome, Failure):
                waiting = [callback for callback in callbacks if callback]
                callback = callbacks[outcome.item] if outcome.item is not None else None
                # joblib takes the traceback off.
                outcome.error.add_note("".join(traceback.format_tb(outcome.error.__traceback__)))
                if waiting:
                    (callback or waiting[0])(outcome.error)
                continue
            callback, callbacks[outcome.item] = callbacks[outcome.item], None
            try:
                self.on_result(outcome)
            except Exception as error:  # noqa: BLE001 - joblib raises it in the thread that waits
                outcome = Failure(error)
            if callback:
                callback(outcome.error if isinstance(outcome, Failure) else outcome.results)


def register() -> None:
    """Make `joblib.parallel_config("balanced")` known."""
    register_parallel_backend("balanced", BalancedBackend)


def _default_client() -> Client:
    try:
        return get_client()
    except ValueError:
        raise ValueError(
            "the backend 'balanced' needs a cluster; create a Dask client first: from tritoncluster.cluster import "
            "connect; with connect() as client: ..."
        ) from None
