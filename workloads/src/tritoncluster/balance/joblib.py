"""joblib's parallel calls on unlike workers: what lets scikit-learn fit there without a change.

joblib brings a backend for Dask. This one differs in what each worker is given, and where a job needs it: work runs on
the cluster even when there is one worker; a lost scheduler or a call that takes its workers down ends the job with an
error (joblib's would wait for ever, or return the exception as a result); and results are told of as they come. What
calls are sent is what joblib's processes ("loky") send them.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
from distributed import Client, get_client
from joblib import register_parallel_backend
from joblib.disk import memstr_to_bytes
from joblib.parallel import FallbackToBackend, ParallelBackendBase, SequentialBackend

from tritoncluster.balance.arguments import Call
from tritoncluster.balance.arrays import READ_ONLY_BYTES
from tritoncluster.balance.broadcast import Sharing
from tritoncluster.balance.chunks import in_call
from tritoncluster.balance.driver import WAIT_FOR_WORKERS, Options
from tritoncluster.balance.outcomes import Failure, Result
from tritoncluster.balance.queue import PATIENCE
from tritoncluster.balance.reconnection import ask
from tritoncluster.balance.run import Run, check_client
from tritoncluster.errors import ClusterLostError
from tritoncluster.weight import weight_of

#: Calls that wait for a worker at any time, unless the caller limits them: the queue should see all that is left.
MAX_WAITING = 50_000
#: Calls are put together where they take less than `SHORT` seconds, as many as take `BATCH`, but not more than
#: `LARGEST`.
SHORT, BATCH, LARGEST = 1e-3, 5e-3, 50


class BalancedBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A joblib backend that gives each worker of a Dask cluster what it can do.

    `joblib.parallel_config("balanced")` makes one. As with joblib's processes, each call gets what was submitted, as it
    was then, and what it does to it is seen by nobody else. Arrays of more than a megabyte are read-only in calls;
    joblib's options `max_nbytes` and `mmap_mode` say otherwise. A memory map that can be written is read-only too, of
    any size: workers don't share its file.

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
    keep_results
        Whether a journal keeps results, or only what `afterwards` makes of them; the results are None then where a call
        comes from there.
    on_result
        Told of each result, in the order in which they come, also of those that joblib does not give to its caller
        because of a later error.
    patience
        Seconds before which no chunk is a straggler.
    wait_for_workers_timeout
        Seconds to wait when there is no worker.
    weight
        The share of workers that others use, too, relative to theirs: from 0.1 to 10. By default what Dask's
        configuration has as `tritoncluster.weight`, or 1.
    nesting_level
        joblib's.

    Raises
    ------
    ValueError
        When there is no client, or the weight is none.
    TypeError
        When the client is asynchronous.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(  # noqa: PLR0913 - each is a user's choice
        self,
        client: Client | None = None,
        *,
        cost: Callable[..., float] | None = None,
        sharing: Sharing | None = None,
        afterwards: Call | None = None,
        keep_results: bool = True,
        on_result: Callable[[Result], None] | None = None,
        patience: float = PATIENCE,
        wait_for_workers_timeout: float = WAIT_FOR_WORKERS,
        weight: float | None = None,
        nesting_level: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        # Inside a call of ours there is nothing to be had from other workers: all of them make such calls.
        self.client = client or (None if in_call() else _default_client())
        if self.client and not in_call():
            check_client(self.client)
        self.cost, self.afterwards, self.on_result = cost, afterwards, on_result
        self.keep_results = keep_results
        self.patience, self.wait_for_workers = patience, wait_for_workers_timeout
        self.weight = weight_of(weight)
        self.sharing = sharing
        # joblib takes one backend for all `Parallel` objects of a context, which may overlap: each gets a copy.
        self._calls: _Calls | None = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Count the cluster's threads; at least 2, because joblib does not ask a backend to run anything for 1."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if self.client is None or in_call():
            return 1
        return max(2, sum(ask(self.client, self.client.nthreads).values()))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Take on a `joblib.Parallel` object."""
        if in_call() or self.client is None:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._calls is None:
            own = copy.copy(self)
            own._calls = _Calls(own, self.client)  # noqa: SLF001 - it is one of us
            raise FallbackToBackend(own)
        self.parallel = parallel
        self._calls.parallel = parallel
        self._calls.read_only_bytes = _read_only_bytes(**options)
        if str(parallel.pre_dispatch).replace(" ", "") == "2*n_jobs":  # joblib's default
            parallel.pre_dispatch = MAX_WAITING
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        """Prepare for a call of the `Parallel` object."""
        self._own.end_run()

    def compute_batch_size(self) -> int:
        """Give 1, as the queue makes the chunks, but for calls that are much shorter than joblib takes for one."""
        return self._own.batch_size()

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Learn nothing: workers measure how long calls take."""

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Take in calls; `callback` gets their results, or the error that ended the run."""
        self._own.add(func.items, callback)
        return callback

    def retrieve_result_callback(self, out: Any) -> Any:
        """Give results to joblib, or raise what ended the run."""
        if isinstance(out, BaseException):
            raise out
        return out

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Wait for results: all calls that joblib makes at first have been submitted."""
        with self._own.waiting():
            yield

    def stop_call(self) -> None:
        """End a call of the `Parallel` object."""
        self._own.end_run()

    def terminate(self) -> None:
        """End the `Parallel` object: let go of its arguments."""
        if self._calls:
            self._calls.end_run()
            self._calls.release()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - joblib's signature
        """Cancel what has not finished."""
        self._own.end_run()

    @property
    def _own(self) -> "_Calls":
        if self._calls is None:
            raise RuntimeError("joblib configures a backend before it uses it")
        return self._calls


class _Calls:
    """The calls of one `Parallel` object: a run for each time that it is called."""

    def __init__(self, backend: BalancedBackend, client: Client) -> None:
        self._backend, self._client = backend, client
        self._sharing = backend.sharing or Sharing(client)
        self.parallel: Any = None
        self.read_only_bytes: float | None = READ_ONLY_BYTES
        self._run: Run | None = None
        self._open: dict[int, Callable[[Any], None]] = {}
        self._added = 0

    def add(self, calls: Any, callback: Callable[[Any], None]) -> None:
        """Add calls that belong together."""
        backend = self._backend
        run = self._run
        if run is None:
            run = self._run = Run(
                self._client,
                calls[0][0],
                self._sharing,
                Options(
                    afterwards=backend.afterwards,
                    keep_results=backend.keep_results,
                    patience=backend.patience,
                    wait_for_workers=backend.wait_for_workers,
                    bounded=self.parallel.return_generator,
                    ordered=self.parallel.return_ordered,
                    read_only_bytes=self.read_only_bytes,
                    weight=backend.weight,
                ),
            )
            self._open, self._added = {}, 0
            # Not in Dask's event loop: what is told of a result may ask Dask something, or make the next calls.
            threading.Thread(target=self._tell, args=(run, self._open), name="balanced results", daemon=True).start()
        cost = sum(backend.cost(*args, **kwargs) for _, args, kwargs in calls) if backend.cost else len(calls)
        self._open[self._added] = callback
        self._added += 1
        run.add(calls, cost)
        run.wait_for_room()

    def batch_size(self) -> int:
        """Give the number of calls to put together."""
        seconds = self._run.seconds_of_call if self._run else None
        # Who is told of results counts them by call.
        if seconds is None or seconds > SHORT or self._backend.on_result or self._backend.cost:
            return 1
        return int(min(LARGEST, max(1, BATCH / max(seconds, 1e-9))))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for results in this thread, which a worker may need back if it is one of its own."""
        run = self._run
        if run is None:
            yield
            return
        run.settle()
        run.start()
        run.leave_task()
        try:
            yield
        finally:
            run.come_back_to_task()

    def end_run(self) -> None:
        """End what is under way."""
        run, self._run = self._run, None
        if run:
            run.end()

    def release(self) -> None:
        """Let go of arguments, unless they are shared with others."""
        if self._backend.sharing is None:
            self._sharing.release()

    def _tell(self, run: Run, waiting: dict[int, Callable[[Any], None]]) -> None:
        """Tell joblib of results and errors; whatever ends the run, no call is left without an answer."""
        error: BaseException | None = None
        first: Callable[[Any], None] | None = None
        try:
            while outcome := run.outcome():
                if isinstance(outcome, Failure):
                    error = outcome.error
                    first = waiting.pop(outcome.item, None) if outcome.item is not None else None
                    break
                callback = waiting.pop(outcome.item)
                if self._backend.on_result:
                    self._backend.on_result(outcome)
                callback(_Taken(run, outcome))
        except BaseException as raised:  # noqa: BLE001 - joblib raises it in the thread that waits
            error = raised
        # A call that was under way when its `Parallel` object ended it needs no answer, but gets none either.
        for callback in [*([first] if first else []), *waiting.values()]:
            callback(error or ClusterLostError())


class _Taken:
    """The results of calls that belong together, unpickled by the thread that wants them, and not before."""

    def __init__(self, run: Run, result: Result) -> None:
        self._run, self._result = run, result

    def __iter__(self) -> Iterator[Any]:
        results = self._result.results
        self._run.took(self._result)
        return iter(results)

    def __len__(self) -> int:
        return self._result.calls


def register() -> None:
    """Make `joblib.parallel_config("balanced")` known."""
    register_parallel_backend("balanced", BalancedBackend)


def _read_only_bytes(
    max_nbytes: int | str | None = READ_ONLY_BYTES, mmap_mode: str | None = "r", **_options: Any
) -> float | None:
    """Give from how many bytes on joblib wants arrays to be memory maps that calls can't change; None for none."""
    if max_nbytes is None or mmap_mode in (None, "c"):
        return None
    return float(memstr_to_bytes(max_nbytes) if isinstance(max_nbytes, str) else max_nbytes)


def _default_client() -> Client:
    """Give Dask's current client; where there is none, a client of the cluster that Dask's configuration names."""
    try:
        return get_client()
    except ValueError:
        if dask.config.get("scheduler-address", None):
            return Client()
        raise ValueError(
            "the backend 'balanced' needs a cluster; create a Dask client first: from tritoncluster.cluster import "
            "connect; with connect() as client: ..."
        ) from None
