"""What workers did, as bars for a timeline: few enough to draw, however many tasks there were."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tritoncluster.balance.broadcast import ARGUMENT
from tritoncluster.jobs import task_names
from tritoncluster.record import Span, Worker

#: More bars than this make the page slow and large.
MAX_BARS = 4000
#: Bars that are nearer than this part of the whole time look like one.
RESOLUTION = 1 / 4000

COMPUTE = "compute"
#: Tasks of every run -> for people; a job says what its own are called.
TASKS = {ARGUMENT: "take in shared data"}
#: Tasks of joblib's Dask backend, which are called for what is in them.
BATCH = re.compile(r"(?:mixed_)?batch_of_(?P<function>.+)_\d+_calls$")


@dataclass(frozen=True)
class Bar:
    """Spans next to each other on one thread of a worker, of one kind where there is room.

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
    """Turn spans into at most `MAX_BARS` bars, in the order of starting.

    Neighbours of one kind are joined over growing gaps; where that is not enough, neighbours on a thread whatever their
    kind, which are named for what took most of their time. Of more threads than bars, those that did most are drawn.
    """
    merged = _single(spans)
    if not merged:
        return []
    whole = max(bar.stop for bar in merged) - merged[0].start
    for by_kind in (True, False):
        gap = RESOLUTION * whole
        while len(merged) > MAX_BARS and gap < 4 * whole:
            merged = _merge(merged, gap, by_kind=by_kind)
            gap *= 2
    if len(merged) > MAX_BARS:
        most = sorted(range(len(merged)), key=lambda place: -merged[place].busy)[:MAX_BARS]
        merged = [merged[place] for place in sorted(most)]
    return merged


def lane_counts(drawn: Sequence[Bar], workers: Sequence[Worker]) -> list[int]:
    """Count the lanes that each worker needs: its threads, or more where they were replaced."""
    highest: dict[str, int] = defaultdict(int)
    for bar in drawn:
        highest[bar.worker] = max(highest[bar.worker], bar.lane + 1)
    return [max(worker.threads, highest[worker.name]) for worker in workers]


def busy_shares(spans: Sequence[Span], workers: Sequence[Worker], seconds: float) -> dict[str, dict[str, float]]:
    """Give the share of each worker's time, over all its threads, that each kind of computing took."""
    shares: dict[str, dict[str, float]] = {worker.name: defaultdict(float) for worker in workers}
    threads = {worker.name: worker.threads for worker in workers}
    for span in spans:
        if span.action == COMPUTE and span.worker in shares and seconds > 0:
            shares[span.worker][kind(span)] += (span.stop - span.start) / seconds / threads[span.worker]
    # A chunk that makes room for others lasts on while they compute.
    return {
        name: {kind: part / max(1.0, sum(kinds.values())) for kind, part in kinds.items()}
        for name, kinds in shares.items()
    }


def kind(span: Span) -> str:
    """Name what a span is, for people."""
    if span.action != COMPUTE:
        return span.action.replace("-", " ")
    batch = BATCH.match(span.task)
    return for_people((batch["function"] if batch else span.task).strip("_"))


def for_people(task: str) -> str:
    """Say what a task does, by its name."""
    return (TASKS | task_names()).get(task, task.replace("_", " "))


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


def _merge(bars: Sequence[Bar], gap: float, *, by_kind: bool) -> list[Bar]:
    groups: list[list[Bar]] = []
    stops: list[float] = []
    last: dict[tuple[str, int, str], int] = {}
    for bar in bars:
        where = bar.worker, bar.lane, bar.kind if by_kind else ""
        place = last.get(where)
        if place is not None and bar.start - stops[place] < gap:
            groups[place].append(bar)
            stops[place] = max(stops[place], bar.stop)
        else:
            last[where] = len(groups)
            groups.append([bar])
            stops.append(bar.stop)
    return [_joined(group, stop) for group, stop in zip(groups, stops, strict=True)]


def _joined(group: Sequence[Bar], stop: float) -> Bar:
    if len(group) == 1:
        return group[0]
    busy: dict[tuple[str, bool], float] = defaultdict(float)
    for bar in group:
        busy[bar.kind, bar.moving] += bar.busy
    kind, moving = max(busy, key=lambda each: busy[each])
    return replace(
        group[0],
        kind=kind,
        moving=moving,
        stop=stop,
        spans=sum(bar.spans for bar in group),
        busy=sum(bar.busy for bar in group),
    )
