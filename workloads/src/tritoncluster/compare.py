"""The same work serially, with joblib's threads and processes, and on the cluster, our way and joblib's."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dask
from distributed import Client
from joblib import Parallel, cpu_count, delayed, parallel_config

from tritoncluster.errors import JobStoppedError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.nodes import ask_workers, scheduler_address
from tritoncluster.nodes import workers as known_workers
from tritoncluster.record import Span, SpanRecorder, Worker, describe_workers, plain
from tritoncluster.versions import installed

CLUSTER, JOBLIBS_DASK = "cluster", "joblib's dask"
#: A ratio to serial work that is no better than this says that the cluster does not help.
WORTH_IT = 0.9
#: For a worker to import what the work needs, in seconds; scikit-learn takes a small computer half a minute.
IMPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Way:
    """One way to do the work.

    Parameters
    ----------
    name
        As in "threads".
    seconds
        For the whole work, or scaled up from `share` of it.
    share
        The part of the work that was done.
    spans
        What the cluster's workers did for it.
    """

    name: str
    seconds: float
    share: float = 1.0
    spans: Sequence[Span] = ()


@dataclass(frozen=True)
class Comparison:
    """What `compare` measured: ways in the order of running, "serial" first; why it `stopped` early, if it did."""

    job: str
    parameters: dict[str, Any]
    started: datetime
    ways: list[Way]
    workers: list[Worker]
    address: str
    versions: dict[str, str]
    stopped: BaseException | None = None

    def ratio(self, way: Way) -> float:
        """Give the time of `way` as a multiple of the serial time."""
        return way.seconds / self.ways[0].seconds

    @property
    def verdict(self) -> str:
        """Whether the cluster helps this job at this size, and what could not be compared."""
        if self.stopped or all(worker.responding for worker in self.workers):
            return self._verdict
        return f"{self._verdict} {JOBLIBS_DASK} is left out: it waits for workers that do not answer."

    @property
    def _verdict(self) -> str:
        cluster = next((way for way in self.ways if way.name == CLUSTER), None)
        if cluster is None:
            return "It stopped before the cluster had done the work."
        others = [way for way in self.ways if way.name in ("serial", "threads", "processes")]
        best = min(others, key=lambda way: way.seconds)
        if cluster.seconds > WORTH_IT * self.ways[0].seconds:
            return (
                f"The cluster does not help here: it takes {self.ratio(cluster):.2f} times the serial time. "
                "The job is too small, or the cluster has no more cores than this machine; try a larger size."
            )
        if cluster.seconds > best.seconds:
            return (
                f"The cluster is {1 / self.ratio(cluster):.1f} times as fast as serial work, but this machine's "
                f"{best.name} alone take {best.seconds / cluster.seconds:.2f} times the cluster's time."
            )
        return f"The cluster is {1 / self.ratio(cluster):.1f} times as fast as serial work, and the fastest way."

    def to_json(self) -> dict[str, Any]:
        """Give the content of `result.json`."""
        return plain(
            {
                "job": f"compare {self.job}",
                "parameters": self.parameters,
                "started": self.started.isoformat(timespec="seconds"),
                "seconds": sum(way.seconds * way.share for way in self.ways),
                "finished": self.stopped is None,
                "cluster": {"address": self.address, "workers": [asdict(worker) for worker in self.workers]},
                "versions": self.versions,
                "result": {
                    "ways": [
                        {"name": way.name, "seconds": way.seconds, "share": way.share, "ratio": self.ratio(way)}
                        for way in self.ways
                    ],
                    "verdict": self.verdict,
                },
            }
        )


def compare(
    client: Client, job: Job, progress: Progress = silent, *, workers: Sequence[Worker] | None = None
) -> Comparison:
    """Do the work of `job` in every way that it has.

    Worker processes are started, and have imported what the work needs, before a clock runs; so does the cluster. What
    ends it after a first way, Ctrl-C for one, is in `Comparison.stopped`.

    Parameters
    ----------
    client, job, progress
        The cluster, what to do, and whom to tell how far it is.
    workers
        What `describe_workers` gave, if it was called before. Dask waits for those that hang. When there are some, the
        poster's tasks go to the others alone, and joblib's Dask backend, which puts data on any worker, is left out.
    """
    if workers is None:
        workers = describe_workers(client)
    started = datetime.now(UTC)
    cores = cpu_count()
    responding = {worker.name for worker in workers if worker.responding}
    asked = [worker.address for worker in known_workers(client) if worker.dask_name in responding]
    only: dict[str, Any] = {} if len(responding) == len(workers) else {"workers": asked}

    def placed(work: Callable[[], object]) -> None:
        with dask.annotate(**only):
            work()

    runs: list[tuple[str, float, Callable[[], object]]] = [
        ("serial", 1.0, lambda: _with_joblib(job, "sequential", 1)),
        ("threads", 1.0, lambda: _with_joblib(job, "threading", cores)),
        ("processes", 1.0, lambda: _with_joblib(job, "loky", cores)),
        (CLUSTER, 1.0, lambda: _on_cluster(job, client)),
        *([] if only else [(JOBLIBS_DASK, 1.0, lambda: _with_joblib(job, "dask"))]),
        *((name, share, partial(placed, work)) for name, share, work in job.posters_ways(client)),
    ]
    module = type(job).__module__
    with parallel_config("loky", n_jobs=cores):
        Parallel()(delayed(__import__)(module) for _ in range(4 * cores))
    ask_workers(client, asked, __import__, module, seconds=IMPORT_SECONDS)
    ways: list[Way] = []
    stopped = None
    for number, (name, share, work) in enumerate(runs):
        progress(f"ways ({name})", number, len(runs))
        recorder = SpanRecorder(client) if name in (CLUSTER, JOBLIBS_DASK) else None
        clock = time.perf_counter()
        try:
            work()
        except (KeyboardInterrupt, Exception) as error:
            if not ways:
                raise
            stopped = error
            break
        seconds = time.perf_counter() - clock
        ways.append(Way(name, seconds / share, share, recorder.spans() if recorder else ()))
    if not stopped:
        progress("ways", len(runs), len(runs))
    return Comparison(
        job.name,
        asdict(job),  # type: ignore[call-overload]
        started,
        ways,
        list(workers),
        scheduler_address(client),
        installed(),
        stopped,
    )


def _on_cluster(job: Job, client: Client) -> None:
    try:
        job.run(client)
    except JobStoppedError as error:
        # What was finished is of no use here.
        raise error.__cause__ or error from None


def _with_joblib(job: Job, backend: str, cores: int = -1) -> None:
    with parallel_config(backend, n_jobs=cores):
        job.run_with_joblib()
