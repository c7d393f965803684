"""A run of a job as it is kept: what ran, where, how long, with which versions, and what came out."""

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from distributed import Client

from tritoncluster.balance import Summary, observed
from tritoncluster.errors import JobStoppedError
from tritoncluster.jobs import Job, Progress, Result, silent
from tritoncluster.nodes import scheduler_address
from tritoncluster.versions import installed


@dataclass(frozen=True)
class Worker:
    """A worker of the cluster."""

    name: str
    architecture: str
    threads: int
    memory_bytes: int


@dataclass(frozen=True)
class Span:
    """Something that a worker did: seconds since the job's start, on the scheduler's clock."""

    worker: str
    thread: int
    task: str
    action: str
    start: float
    stop: float


@dataclass(frozen=True)
class Record:
    """A run of one job.

    Parameters
    ----------
    job, parameters
        Its name on the command line and the values of its options.
    started
        When, UTC.
    seconds
        How long the work took, without starting a cluster.
    address, workers
        The cluster that it ran on, as it was at the start.
    versions
        Of Python and of the packages that results depend on.
    result
        What came out; None when the run was stopped before any of it was finished.
    spans
        What the workers did; empty when the scheduler could no longer be asked.
    stopped
        Why it ended early, None when it did not.
    balance
        Who did how much of each part of the work, in the order in which they ran.
    """

    job: str
    parameters: dict[str, Any]
    started: datetime
    seconds: float
    address: str
    workers: list[Worker]
    versions: dict[str, str]
    result: Result | None
    spans: list[Span]
    stopped: BaseException | None = None
    balance: Sequence[Summary] = ()


def measure(client: Client, job: Job, progress: Progress = silent) -> Record:
    """Run a job and record it, also when Ctrl-C or a lost scheduler ends it early."""
    workers = describe_workers(client)
    started, begin = datetime.now(UTC), time.time()
    stopped = None
    spans: list[Span] = []
    keep_spans(client)
    clock = time.perf_counter()
    with observed() as balance:
        try:
            result: Any = job.run(client, progress)
        except JobStoppedError as error:
            result, stopped = error.result, error.__cause__
    seconds = time.perf_counter() - clock
    if client.status == "running":
        spans = spans_since(client, begin)
    return Record(
        job.name,
        asdict(job),  # type: ignore[call-overload]  # a protocol can't say that it is a dataclass
        started,
        seconds,
        scheduler_address(client),
        workers,
        installed(),
        result,
        spans,
        stopped,
        balance,
    )


def describe_workers(client: Client) -> list[Worker]:
    """List the cluster's workers by name."""
    # A function of the standard library's: nothing has to be installed there for it.
    machines = client.run(platform.machine)
    info = client.scheduler_info(n_workers=-1)["workers"]
    workers = [
        Worker(str(info[address]["name"]), machine, info[address]["nthreads"], info[address]["memory_limit"] or 0)
        for address, machine in machines.items()
    ]
    return sorted(workers, key=lambda worker: (len(worker.name), worker.name))


def to_json(records: Sequence[Record]) -> dict[str, Any]:
    """Give the content of `result.json`: of one job, or of several that ran one after the other on one cluster."""
    first = records[0]
    content: dict[str, Any] = {
        "job": first.job,
        "parameters": first.parameters,
        "started": first.started.isoformat(timespec="seconds"),
        "seconds": first.seconds,
        "finished": not any(record.stopped for record in records),
        "cluster": {"address": first.address, "workers": [asdict(worker) for worker in first.workers]},
        "versions": first.versions,
        "result": first.result and first.result.to_json(),
        "balance": [{"job": record.job} | part.to_json() for record in records for part in record.balance],
    }
    if len(records) > 1:
        content |= {
            "job": "all",
            "parameters": {record.job: record.parameters for record in records},
            "seconds": math.fsum(record.seconds for record in records),
            "seconds_of_job": {record.job: record.seconds for record in records},
            "result": {record.job: record.result and record.result.to_json() for record in records},
        }
    return plain(content)


def plain(value: Any) -> Any:
    """Turn NumPy's scalars and arrays into Python's, and numbers that JSON lacks (NaN, infinity) into None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def keep_spans(client: Client) -> None:
    """Let the scheduler keep what workers do: it does so from the first time that it is asked."""
    client.get_task_stream(start=0, stop=0)


def spans_since(client: Client, begin: float) -> list[Span]:
    """Give what workers did since `begin`, in seconds since the epoch."""
    info = client.scheduler_info(n_workers=-1)["workers"]
    return [
        Span(
            str(info.get(task["worker"], {}).get("name", task["worker"])),
            task["thread"],
            str(task["key"]).rsplit("-", 2)[0],
            step["action"],
            step["start"] - begin,
            step["stop"] - begin,
        )
        for task in client.get_task_stream(start=begin)
        for step in task["startstops"]
    ]
