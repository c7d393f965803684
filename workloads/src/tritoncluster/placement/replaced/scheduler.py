"""A scheduler that places tasks where they end first."""

import math
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import islice
from time import monotonic
from typing import Any

from distributed import Scheduler
from distributed.scheduler import TaskGroup, TaskPrefix, TaskState, TaskStateState, WorkerState, _worker_full

from tritoncluster.placement.plan import Slots, finish_time
from tritoncluster.placement.speeds import Speeds

#: Ratio of the fastest worker's speed to the slowest one's, as far as that is certain, from which speeds count; and to
#: which it has to fall before they no longer do.
UNEVEN, EVEN_AGAIN = 1.2, 1.1
#: Standard deviations that speeds may be wrong by, until they count: tasks of unlike length make equal workers look
#: unlike.
SURELY = 2.0
#: Speeds are told apart in steps of this ratio, so that equal workers are equal.
STEP = 1.05
#: Seconds that it takes to get data from another worker, besides its bytes.
LATENCY = 0.01
#: Seconds of a task, at most, for which a worker gets one more than it has threads, and one of the fastest: before a
#: longer one, the moment until the next arrives does not matter, but that no faster worker can have it any more.
PREFETCH, PREFETCH_FASTEST = 0.1, 1.0
#: A task that is late by so many seconds is expected to take as long again, times this: its worker may hang.
LATE = 0.5
#: Of how much a thread is slowed down when all others of its worker are busy; this decides between equals alone.
CROWDED = 0.05
#: Up to so many workers, all are looked at for a task; of more, those that have its data, and so many others.
SMALL_ROOM, OTHERS = 20, 2
#: Seconds between two plans, or two rounds of stealing, at least; and for each worker, since both look at all.
PLAN_EVERY, PLAN_EVERY_WORKER = 0.02, 5e-4
STEAL_EVERY, STEAL_EVERY_WORKER = 0.05, 5e-4
#: And as many times as long as the last round took: it looks at each task that waits on a worker, be they 10,000.
STEAL_PAUSES = 20
#: By how much a plan may be missed: as a part of it, and in seconds.
TOLERANCE, MOMENT = 0.02, 0.005
#: Tasks of the queue that a plan looks at.
SAMPLE = 50
#: Dask's own `worker-saturation`; who sets another one means it.
SATURATION = 1.1


def in_threads(ws: WorkerState) -> int:
    """Count the tasks that have a thread of the worker, or wait for one; those that seceded do not."""
    return len(ws.processing) - len(ws.long_running)


def _has_a_thread(ws: WorkerState) -> bool:
    return in_threads(ws) < ws.nthreads


class SpeedAwareScheduler(Scheduler):
    """A scheduler that places tasks where they end first. `install` makes one; `__init__` is not called.

    Attributes
    ----------
    speeds : Speeds
        What is known of workers and of kinds of tasks, which are Dask's prefixes.
    uneven : bool
        Whether speeds count.
    pace, fastest : dict of str to float, float
        Their speeds by address, where the mean of all threads is 1, and the greatest; `scale` is that mean in units of
        `speeds`, and `by_pace` has those that run, the fastest first.
    began : dict of str to float
        By address: when, as a mean, a worker's threads began with what they do.
    held : set of WorkerState
        Those that would get what is queued in Dask's way, and do not: others will have done it before.
    deadline, planned : float
        By when all will be done, and when that was found.
    unit, variation : float
        Mean seconds of a queued task, at pace 1, and the mean of `Speeds.variation`.
    asked : TaskState
        The task that was to be placed last, whose group is the one that the last plan was for: `planned_for`.
    """

    speeds: Speeds
    uneven: bool
    pace: dict[str, float]
    fastest: float
    scale: float
    by_pace: list[WorkerState]
    began: dict[str, float]
    held: set[WorkerState]
    deadline: float
    planned: float
    unit: float
    variation: float
    stolen: float
    stealing_took: float
    weighed: float
    seceded: set[TaskState]
    asked: TaskState | None
    planned_for: TaskGroup | None

    # How long.

    def _get_prefix_duration(self, prefix: TaskPrefix) -> float:
        if self.uneven and (known := self.speeds.seconds(prefix.name)) is not None:
            return known / self.scale
        # Dask's own mean is that of the last few workers that finished one.
        return float(super()._get_prefix_duration(prefix))

    def pace_of(self, ws: WorkerState) -> float:
        """Give a worker's speed, where the mean thread's is 1."""
        return self.pace.get(ws.address, 1.0)

    def start_on(self, ws: WorkerState) -> float:
        """Give the seconds until a thread of the worker is free."""
        tasks = in_threads(ws)
        return self._threads_free(ws, tasks) if tasks >= ws.nthreads else 0.0

    def _threads_free(self, ws: WorkerState, tasks: int) -> float:
        each = ws.occupancy / tasks / self.pace_of(ws)
        now = monotonic()
        elapsed = now - self.began.get(ws.address, now)
        left = each - elapsed if elapsed < each else (elapsed - each) * LATE
        return left + max(0, tasks - ws.nthreads) * each / ws.nthreads

    def finish_on(self, ts: TaskState, ws: WorkerState, start: float) -> float:
        """Give the seconds until a task is done on a worker that has a thread free in `start` seconds."""
        transfer = self.get_comm_cost(ts, ws)
        if transfer:
            transfer += LATENCY
        own = self._get_prefix_duration(ts.prefix) / self.pace_of(ws)
        return float(start + transfer + own * (1 + CROWDED * len(ws.processing) / ws.nthreads))

    # Where.

    def worker_objective(self, ts: TaskState, ws: WorkerState) -> tuple[Any, ...]:
        """Give what is least where the task ends first."""
        if not self.uneven or ts.actor:
            return super().worker_objective(ts, ws)
        start = self._resources_free(ts, ws) if ts.resource_restrictions else self.start_on(ws)
        return (self.finish_on(ts, ws, start), ws.nbytes)

    def _resources_free(self, ts: TaskState, ws: WorkerState) -> float:
        # Where tasks wait for a resource, a free thread says nothing: as if all that is there wanted it, too.
        wanted = (ts.resource_restrictions or {}).items()
        fit = [int(ws.resources.get(name, 0) / number) for name, number in wanted if number]
        return float(ws.occupancy / self.pace_of(ws) / max(1, min([ws.nthreads, *fit])))

    def decide_worker_non_rootish(self, ts: TaskState) -> WorkerState | None:
        """Give the worker on which the task ends first, whether it has the data or has to fetch it."""
        if not self.uneven or ts.actor:
            return super().decide_worker_non_rootish(ts)
        valid = self.valid_workers(ts)
        pool = self.running if valid is None else valid & self.running
        if not pool:
            return super().decide_worker_non_rootish(ts)
        if len(pool) <= SMALL_ROOM:
            return min(pool, key=lambda ws: self.worker_objective(ts, ws))
        return self._decide_in_large_room(ts, pool)

    def _decide_in_large_room(self, ts: TaskState, pool: set[WorkerState]) -> WorkerState:
        holders = (ws for dependency in ts.dependencies for ws in islice(dependency.who_has or (), OTHERS))
        found = {ws for ws in islice(holders, SMALL_ROOM) if ws in pool}
        others = [ws for ws in self._in_turn() if ws in pool and ws not in found]
        if not found:
            return min(others or islice(pool, SMALL_ROOM), key=lambda ws: self.worker_objective(ts, ws))
        ends = {ws: self.worker_objective(ts, ws) for ws in found}
        best = min(found, key=ends.__getitem__)
        seconds = self._get_prefix_duration(ts.prefix)
        for ws in others:
            # Most can't be sooner, and are not looked at more closely.
            if seconds / self.pace_of(ws) + LATENCY < ends[best][0]:
                ends[ws] = self.worker_objective(ts, ws)
                best = min(best, ws, key=ends.__getitem__)
        return best

    def _in_turn(self) -> Iterator[WorkerState]:
        """Give some idle workers and some others, each time others."""
        for workers in (self.idle, self.workers):
            values: Any = workers.values()
            for place in range(min(OTHERS, len(values))):
                yield values[(self.n_tasks * OTHERS + place) % len(values)]

    # What is queued.

    def is_rootish(self, ts: TaskState) -> bool:
        """Tell whether a task is to be queued; the scheduler asks before it asks for a worker, without the task."""
        self.asked = ts
        return bool(super().is_rootish(ts))

    def decide_worker_rootish_queuing_enabled(self) -> WorkerState | None:
        """Give the worker on which a task of the queue ends first, None while no worker may have it."""
        if not self.uneven:
            return self._decide_while_even()
        if not self.queued and self.asked and (self._plan_is_old() or self.planned_for is not self.asked.group):
            self._plan()
        pool: Iterable[WorkerState] = self.idle_task_count
        if len(self.idle_task_count) > SMALL_ROOM:
            pool = self._fastest_of(self.idle_task_count)
        if ready := [(self.end_of_next(ws), ws) for ws in pool if self._takes_next(ws)]:
            end, ws = min(ready, key=lambda each: each[0])
            if end[0] <= self.deadline - monotonic():
                return ws
        # Dask queues a task only when no worker is in this set.
        self.held |= self.idle_task_count
        self.idle_task_count.clear()
        return None

    def _decide_while_even(self) -> WorkerState | None:
        """Let Dask decide, but for long tasks on workers of which nothing is known: there none waits for a thread."""
        ws = super().decide_worker_rootish_queuing_enabled()
        if self.WORKER_SATURATION != SATURATION:
            return ws
        ts = self.queued.peek() if self.queued else self.asked
        if ws is None or _has_a_thread(ws) or ts is None or 0 <= ts.prefix.duration_average <= PREFETCH:
            return ws
        # That was the one that has least to do.
        self.idle_task_count = {each for each in self.idle_task_count if self.speeds.knows(str(each.name))}
        return super().decide_worker_rootish_queuing_enabled()

    def _fastest_of(self, pool: set[WorkerState]) -> list[WorkerState]:
        """Give the fastest few of many, of those with a free thread if there are any."""
        free = (ws for ws in self.by_pace if ws in pool and _has_a_thread(ws))
        return list(islice(free, OTHERS)) or nlargest(OTHERS, pool, key=self.pace_of)

    def _takes_next(self, ws: WorkerState) -> bool:
        """Tell whether a worker has a free thread, or does tasks so fast that one may wait there."""
        pace = self.pace_of(ws)
        longest = PREFETCH_FASTEST if pace >= self.fastest else PREFETCH
        return _has_a_thread(ws) or self.unit / pace <= longest

    def end_of_next(self, ws: WorkerState) -> tuple[float, float]:
        """Give the seconds until a worker will have done one more task of the queue, and how full it is."""
        own = self.unit / self.pace_of(ws)
        # The task may be longer than the mean of its kind, and the longer on a slow worker; a few of many will be.
        risk = self.variation * (own - self.unit / self.fastest)
        return (self.start_on(ws) + own + risk, len(ws.processing) / ws.nthreads)

    def stimulus_queue_slots_maybe_opened(self, *, stimulus_id: str) -> None:
        """Hand out what is queued, as far as it ends sooner where there is room than elsewhere."""
        if self.uneven and self.queued and self._plan_is_old():
            self._plan()
        while self.queued and self.idle_task_count:
            ts = self.queued.peek()
            self.transitions({ts.key: "processing"}, stimulus_id)
            if ts.state == "queued":
                break
        if self.uneven and self.idle:
            self._steal()

    def _plan_is_old(self) -> bool:
        return monotonic() - self.planned > max(PLAN_EVERY, PLAN_EVERY_WORKER * len(self.running))

    def _plan(self) -> None:
        """Find out by when all will be done, and look at those that were held again."""
        self.planned = self.deadline = monotonic()
        first = list(islice(self.queued, SAMPLE))
        # What waits for what is queued will want the same threads. Tasks of a graph that has just come are released.
        to_come: tuple[TaskStateState, ...] = ("queued", "waiting") if first else ("queued", "waiting", "released")
        if not first and self.asked:
            first, self.planned_for = [self.asked], self.asked.group
        if sample := [self._get_prefix_duration(ts.prefix) for ts in first]:
            self.unit = max(1e-6, math.fsum(sample) / len(sample))
            self.variation = math.fsum(self.speeds.variation(ts.prefix.name) for ts in first) / len(first)
        left = math.fsum(
            self._get_prefix_duration(prefix) * count
            for prefix in self.task_prefixes.values()
            if (count := sum(prefix.states[state] for state in to_come))
        )
        tasks = max(1.0, len(self.queued), left / self.unit)
        end = finish_time(tasks, [slots for ws in self.running for slots in self._slots(ws)])
        self.deadline += end * (1 + TOLERANCE) + MOMENT
        self._release_held()

    def _slots(self, ws: WorkerState) -> Iterable[Slots]:
        own = self.unit / self.pace_of(ws)
        tasks = in_threads(ws)
        if tasks < ws.nthreads:
            yield Slots(ws.nthreads - tasks, 0.0, own)
        if tasks:
            yield Slots(min(tasks, ws.nthreads), self._threads_free(ws, tasks), own)

    def _release_held(self) -> None:
        for ws in [ws for ws in self.held if not self.uneven or self._takes_next(ws)]:
            self.held.discard(ws)
            if ws in self.running and not _worker_full(ws, self.WORKER_SATURATION):
                self.idle_task_count.add(ws)

    # Who is idle, who has too much.

    def check_idle_saturated(self, ws: WorkerState, occ: float = -1.0) -> None:
        """Note whether a worker is idle, or has too much, by the seconds that it will take."""
        if self.uneven and occ < 0:
            occ = ws.occupancy / self.pace_of(ws)
        super().check_idle_saturated(ws, occ)

    def _steal(self) -> None:
        begin = monotonic()
        pause = max(STEAL_EVERY, STEAL_EVERY_WORKER * len(self.workers), STEAL_PAUSES * self.stealing_took)
        # There when stealing is on, and not while it is stopped.
        if begin - self.stolen > pause and "stealing" in self.periodic_callbacks:
            self.extensions["stealing"].balance()
            self.stolen = monotonic()
            self.stealing_took = self.stolen - begin

    def handle_long_running(self, key: Any, worker: str, *args: Any, **kwargs: Any) -> None:
        """Note that a task left its thread."""
        super().handle_long_running(key, worker, *args, **kwargs)
        ts, ws = self.tasks.get(key), self.workers.get(worker)
        if ts and ws and ts in ws.long_running:
            self.seceded.add(ts)
            self.note_end(ws)

    # What is known.

    def note_start(self, ws: WorkerState) -> None:
        """Note that a worker has one task more."""
        running = in_threads(ws)
        if 0 < running <= ws.nthreads:
            self._began_one(ws, running)

    def note_end(self, ws: WorkerState) -> None:
        """Note that a worker has one task less."""
        if not _has_a_thread(ws):
            self._began_one(ws, ws.nthreads)

    def _began_one(self, ws: WorkerState, running: int) -> None:
        now = monotonic()
        before = self.began.get(ws.address, now)
        self.began[ws.address] = now if running == 1 else before + (now - before) / running

    def weigh(self) -> None:
        """Take over what has been learned of speeds."""
        self.weighed = monotonic()
        names = {ws: str(ws.name) for ws in self.running}
        surely = 1.0 if self.uneven else SURELY
        known = {ws: self.speeds.bounds(name, surely) for ws, name in names.items() if self.speeds.knows(name)}
        late = self._late(known) if known else {}
        # Of two that are known, or one and others that are late.
        fastest = max((least for least, _ in known.values()), default=0.0)
        slowest = min([most for _, most in known.values()] + [*late.values()], default=math.inf)
        self._set_uneven(value=fastest > slowest * (EVEN_AGAIN if self.uneven else UNEVEN))
        if self.uneven:
            speeds = {ws: self.speeds.speed(str(ws.name)) for ws in known} | late
            threads = sum(ws.nthreads for ws in speeds)
            self.scale = math.fsum(speed * ws.nthreads for ws, speed in speeds.items()) / threads
            self.pace = {ws.address: STEP ** round(math.log(speed / self.scale, STEP)) for ws, speed in speeds.items()}
            self.fastest = max(self.pace.values())
            self.by_pace = sorted(self.running, key=self.pace_of, reverse=True)

    def weigh_now_and_then(self) -> None:
        """Do so unless it was done a moment ago."""
        if monotonic() - self.weighed > max(PLAN_EVERY, PLAN_EVERY_WORKER * len(self.workers)):
            self.weigh()

    def _late(self, known: Iterable[WorkerState]) -> dict[WorkerState, float]:
        """Give the greatest speeds that workers can have that have finished nothing yet, and are late."""
        found = {}
        for ws in self.running.difference(known):
            kinds = [(self.speeds.seconds(name), self.speeds.varies(name)) for name in ws.task_prefix_count]
            longest = max(((seconds or math.inf) * varies**2 for seconds, varies in kinds), default=math.inf)
            elapsed = monotonic() - self.began.get(ws.address, math.inf)
            if elapsed > 2 * longest:
                found[ws] = longest / elapsed
        return found

    def _set_uneven(self, *, value: bool) -> None:
        if value != self.uneven:
            self.uneven = value
            self.pace, self.fastest, self.scale, self.by_pace = {}, 1.0, 1.0, []
            self._release_held()
            for ws in self.workers.values():
                self.check_idle_saturated(ws)

    def look_again(self) -> None:
        """Do what time alone can make necessary: held workers must not wait for a task that never ends."""
        before = self.uneven
        self.weigh_now_and_then()
        if self.uneven:
            # Those with more than they have threads for are not idle because a task there was thought to be short.
            for ws in [ws for ws in self.idle.values() if in_threads(ws) > ws.nthreads]:
                self.check_idle_saturated(ws, occ=max(ws.occupancy / self.pace_of(ws), self.start_on(ws)))
        if before or self.uneven:
            self.stimulus_queue_slots_maybe_opened(stimulus_id="placement")

    def forget_task(self, key: Any) -> None:
        """Let go of a task that nobody wants any more, with all that it holds."""
        if self.asked and self.asked.key == key:
            self.asked = None

    def forget_worker(self, address: str) -> None:
        """Let go of what is kept of a worker that is gone."""
        if address not in self.workers:
            self.held = {ws for ws in self.held if ws.address != address}
            self.began.pop(address, None)
            self.pace.pop(address, None)
