"""The same work serially, with joblib's threads and processes, and on the cluster, our way and joblib's."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from distributed import Client
from joblib import Parallel, cpu_count, delayed, parallel_config

from tritoncluster.errors import JobStoppedError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.nodes import scheduler_address
from tritoncluster.record import Span, Worker, describe_workers, keep_spans, plain, spans_since
from tritoncluster.versions import installed

if TYPE_CHECKING:
    from collections.abc import Callable

CLUSTER, JOBLIBS_DASK = "cluster", "joblib's dask"
#: A ratio to serial work that is no better than this says that the cluster does not help.
WORTH_IT = 0.9


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
    """What `compare` measured: ways in the order of running, "serial" first."""

    job: str
    parameters: dict[str, Any]
    started: datetime
    ways: list[Way]
    workers: list[Worker]
    address: str
    versions: dict[str, str]

    def ratio(self, way: Way) -> float:
        """Give the time of `way` as a multiple of the serial time."""
        return way.seconds / self.ways[0].seconds

    @property
    def verdict(self) -> str:
        """One sentence on whether the cluster helps this job at this size."""
        cluster = next(way for way in self.ways if way.name == CLUSTER)
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
                "finished": True,
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


def compare(client: Client, job: Job, progress: Progress = silent) -> Comparison:
    """Do the work of `job` in every way that it has.

    Worker processes are started, and have imported what the work needs, before a clock runs; so does the cluster.
    """
    started = datetime.now(UTC)
    cores = cpu_count()
    runs: list[tuple[str, float, Callable[[], object]]] = [
        ("serial", 1.0, lambda: _with_joblib(job, "sequential", 1)),
        ("threads", 1.0, lambda: _with_joblib(job, "threading", cores)),
        ("processes", 1.0, lambda: _with_joblib(job, "loky", cores)),
        (CLUSTER, 1.0, lambda: _on_cluster(job, client)),
        (JOBLIBS_DASK, 1.0, lambda: _with_joblib(job, "dask")),
        *job.posters_ways(client),
    ]
    module = type(job).__module__
    with parallel_config("loky", n_jobs=cores):
        Parallel()(delayed(__import__)(module) for _ in range(4 * cores))
    client.run(__import__, module)
    keep_spans(client)
    ways = []
    for number, (name, share, work) in enumerate(runs):
        progress(f"ways ({name})", number, len(runs))
        clock, begin = time.perf_counter(), time.time()
        work()
        seconds = time.perf_counter() - clock
        spans = spans_since(client, begin) if name in (CLUSTER, JOBLIBS_DASK) else ()
        ways.append(Way(name, seconds / share, share, spans))
    progress("ways", len(runs), len(runs))
    return Comparison(
        job.name,
        asdict(job),  # type: ignore[call-overload]
        started,
        ways,
        describe_workers(client),
        scheduler_address(client),
        installed(),
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
