"""A run of a job as it is kept: what ran, where, how long, with which versions, and what came out."""

import asyncio
import math
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from distributed import Client, get_task_stream

from tritoncluster.balance import Summary, observed
from tritoncluster.balance.reconnection import on_return
from tritoncluster.errors import JobStoppedError
from tritoncluster.jobs import Job, Progress, Result, silent
from tritoncluster.nodes import SCHEDULER_SECONDS, ask_scheduler, ask_workers, scheduler_address
from tritoncluster.nodes import workers as known_workers
from tritoncluster.versions import installed

#: For the scheduler to give all that workers did, in seconds; that can be some tens of megabytes.
SPANS_SECONDS = 30.0


@dataclass(frozen=True)
class Worker:
    """A worker of the cluster.

    Parameters
    ----------
    name
        As Dask has it: a bare number in an embedded cluster.
    architecture
        As in "aarch64"; "" when it did not say.
    threads, memory_bytes
        How many tasks it runs at a time, and its memory limit, 0 for none.
    responding
        Whether it answered when it was asked. One that did not hangs, is gone or is very busy.
    """

    name: str
    architecture: str
    threads: int
    memory_bytes: int
    responding: bool = True


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


def measure(
    client: Client, job: Job, progress: Progress = silent, *, workers: Sequence[Worker] | None = None
) -> Record:
    """Run a job and record it, also when Ctrl-C or a lost scheduler ends it early.

    `workers` are those that `describe_workers` gave, if it was called before.
    """
    if workers is None:
        workers = describe_workers(client)
    started = datetime.now(UTC)
    stopped = None
    recorder = SpanRecorder(client)
    clock = time.perf_counter()
    with observed() as balance:
        try:
            result: Any = job.run(client, progress)
        except JobStoppedError as error:
            result, stopped = error.result, error.__cause__
    seconds = time.perf_counter() - clock
    return Record(
        job.name,
        asdict(job),  # type: ignore[call-overload]  # a protocol can't say that it is a dataclass
        started,
        seconds,
        scheduler_address(client),
        list(workers),
        installed(),
        result,
        recorder.spans(),
        stopped,
        balance,
    )


def describe_workers(client: Client) -> list[Worker]:
    """List the cluster's workers by name.

    Those that do not answer within a few seconds, or that go away meanwhile, are listed as not responding.

    Raises
    ------
    OSError
        When the scheduler does not answer.
    """
    known = known_workers(client)
    # A function of the standard library's: nothing has to be installed there for it.
    machines = ask_workers(client, [worker.address for worker in known], platform.machine)
    answers = {address: answer for address, answer in machines.items() if isinstance(answer, str)}
    return [
        Worker(
            worker.dask_name,
            answers.get(worker.address, ""),
            worker.threads,
            worker.memory_limit,
            responding=worker.address in answers,
        )
        for worker in known
    ]


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


class SpanRecorder:
    """Records what workers do from its creation on.

    Times are the scheduler's, which workers correct theirs by. Which tasks count is told by their place in the
    scheduler's list: the clock of this process may be wrong, as on a small computer that has just been switched on.
    What workers did before a scheduler was lost is lost with it.

    Parameters
    ----------
    client
        Whose cluster. When its scheduler does not answer, nothing is recorded.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream = get_task_stream(client)
        self._names: dict[str, str] = {}
        self._begin: float | None = None
        self._created = time.monotonic()
        self._stay = on_return(client, self._record_again)
        with suppress(OSError):
            self._names = self._names_now()
            # Its first question makes the scheduler keep what workers do.
            client.sync(self._stream.__aenter__, callback_timeout=SCHEDULER_SECONDS)
            begin = ask_scheduler(client, time.time)
            self._begin = begin if isinstance(begin, float) else None

    def spans(self) -> list[Span]:
        """Give what workers did, in seconds since the recorder's creation; empty when the scheduler can't be asked."""
        self._stay()
        begin = self._begin
        if begin is None or self._client.status != "running":
            return []
        try:
            # Workers may have come since, and others gone.
            names = self._names | self._names_now()
            self._client.sync(self._stream.__aexit__, None, None, None, callback_timeout=SPANS_SECONDS)
        except OSError:
            return []
        return [
            Span(
                names.get(task["worker"], task["worker"]),
                task["thread"],
                str(task["key"]).rsplit("-", 2)[0],
                step["action"],
                step["start"] - begin,
                step["stop"] - begin,
            )
            for task in self._stream.data
            for step in task["startstops"]
        ]

    async def _record_again(self) -> None:
        # The clock of the host may be another one, too.
        await asyncio.wait_for(self._stream.__aenter__(), SCHEDULER_SECONDS)
        now = await asyncio.wait_for(self._client.run_on_scheduler(time.time), SCHEDULER_SECONDS)
        self._begin = now - (time.monotonic() - self._created)

    def _names_now(self) -> dict[str, str]:
        return {worker.address: worker.dask_name for worker in known_workers(self._client)}
