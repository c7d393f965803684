"""What workers did, as bars for a timeline: few enough to draw, however many tasks there were."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tritoncluster.balance.pieces import ARGUMENT
from tritoncluster.record import Span, Worker

#: More bars than this make the page slow and large.
MAX_BARS = 4000
#: Bars that are nearer than this part of the whole time look like one.
RESOLUTION = 1 / 4000

COMPUTE = "compute"
#: Task names as their functions have them -> for people.
TASKS = {
    "parallel_build_trees": "grow trees",
    ARGUMENT: "take in shared data",
    "stop": "end a piece early",
    "fit_and_score": "fit and score a fold",
    "fit": "final fit",
    "predict_rows": "predict",
    "simulate_block": "simulate paths",
}
#: Tasks of joblib's Dask backend, which are called for what is in them.
BATCH = re.compile(r"(?:mixed_)?batch_of_(?P<function>.+)_\d+_calls$")


@dataclass(frozen=True)
class Bar:
    """Spans of one kind, next to each other on one thread of a worker.

    Parameters
    ----------
    worker, lane
        Whose; its threads are counted from 0.
    kind
        What was done, for people; the action where nothing was computed.
    moving
        Whether data came from elsewhere instead of something being computed.
    start, stop
        In seconds.
    spans
        How many are in it.
    busy
        Seconds that they took, without the gaps between them.
    """

    worker: str
    lane: int
    kind: str
    moving: bool
    start: float
    stop: float
    spans: int
    busy: float


def bars(spans: Sequence[Span]) -> list[Bar]:
    """Turn spans into at most `MAX_BARS` bars, in the order of starting."""
    single = _single(spans)
    if not single:
        return []
    gap = RESOLUTION * max(bar.stop for bar in single)
    merged = single
    while len(merged) > MAX_BARS:
        merged = _merge(single, gap)
        gap *= 2
    return merged


def lane_count(all_bars: Sequence[Bar], worker: Worker) -> int:
    """Count the lanes that a worker needs: its threads, or more where they were replaced."""
    return max([worker.threads, *(bar.lane + 1 for bar in all_bars if bar.worker == worker.name)])


def busy_shares(spans: Sequence[Span], workers: Sequence[Worker], seconds: float) -> dict[str, dict[str, float]]:
    """Give the share of each worker's time, over all its threads, that each kind of computing took."""
    shares: dict[str, dict[str, float]] = {worker.name: defaultdict(float) for worker in workers}
    threads = {worker.name: worker.threads for worker in workers}
    for span in spans:
        if span.action == COMPUTE and span.worker in shares and seconds > 0:
            shares[span.worker][kind(span)] += (span.stop - span.start) / seconds / threads[span.worker]
    return shares


def kind(span: Span) -> str:
    """Name what a span is, for people."""
    if span.action != COMPUTE:
        return span.action.replace("-", " ")
    batch = BATCH.match(span.task)
    return for_people((batch["function"] if batch else span.task).strip("_"))


def for_people(task: str) -> str:
    """Say what a task does, by its name."""
    return TASKS.get(task, task.replace("_", " "))


def _single(spans: Sequence[Span]) -> list[Bar]:
    lanes = _lanes(spans)
    return [
        Bar(
            span.worker,
            lanes[span.worker, span.thread],
            kind(span),
            span.action != COMPUTE,
            span.start,
            span.stop,
            1,
            span.stop - span.start,
        )
        for span in sorted(spans, key=lambda span: span.start)
    ]


def _lanes(spans: Sequence[Span]) -> dict[tuple[str, int], int]:
    """Give each thread a lane of its worker; threads that were never there together share one."""
    times: dict[tuple[str, int], tuple[float, float]] = {}
    for span in spans:
        first, last = times.get((span.worker, span.thread), (span.start, span.stop))
        times[span.worker, span.thread] = min(first, span.start), max(last, span.stop)
    lanes: dict[tuple[str, int], int] = {}
    ends: dict[str, list[float]] = defaultdict(list)
    for (worker, thread), (first, last) in sorted(times.items(), key=lambda item: item[1]):
        free = next((lane for lane, end in enumerate(ends[worker]) if end <= first), len(ends[worker]))
        ends[worker][free : free + 1] = [last]
        lanes[worker, thread] = free
    return lanes


def _merge(single: Sequence[Bar], gap: float) -> list[Bar]:
    merged: list[Bar] = []
    last: dict[tuple[str, int, str], int] = {}
    for bar in single:
        where = bar.worker, bar.lane, bar.kind
        place = last.get(where)
        if place is not None and bar.start - merged[place].stop < gap:
            before = merged[place]
            merged[place] = replace(
                before, stop=max(before.stop, bar.stop), spans=before.spans + 1, busy=before.busy + bar.busy
            )
        else:
            last[where] = len(merged)
            merged.append(bar)
    return merged
