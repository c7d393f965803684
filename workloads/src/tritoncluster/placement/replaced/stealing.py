"""Work stealing that knows of speeds."""

from heapq import nlargest

from distributed.scheduler import SchedulerState, TaskState, WorkerState
from distributed.stealing import WorkStealing

from tritoncluster.placement.replaced.scheduler import SMALL_ROOM, SpeedAwareScheduler, in_threads


class SpeedAwareStealing(WorkStealing):
    """Work stealing that moves a task only to where it ends sooner."""

    scheduler: SpeedAwareScheduler

    def _combined_occupancy(self, ws: WorkerState, *, occupancies: dict[WorkerState, float]) -> float:
        found = float(super()._combined_occupancy(ws, occupancies=occupancies)) / self.scheduler.pace_of(ws)
        # What waits behind a task that is late, or hangs, waits for that.
        return max(found, self.scheduler.start_on(ws)) if self.scheduler.uneven else found

    def stealing_objective(
        self, ts: TaskState, ws: WorkerState, *, occupancies: dict[WorkerState, float]
    ) -> tuple[float, ...]:
        """Give what is least where the task ends first, with what is being stolen."""
        if not self.scheduler.uneven or ts.actor:
            return super().stealing_objective(ts, ws, occupancies=occupancies)
        start = 0.0
        if in_threads(ws) + self.in_flight_tasks[ws] >= ws.nthreads:
            coming = self.in_flight_occupancy[ws] / self.scheduler.pace_of(ws) / ws.nthreads
            start = self.scheduler.start_on(ws) + max(0.0, coming)
        return (self.scheduler.finish_on(ts, ws, start), ws.nbytes)

    def put_key_in_stealable(self, ts: TaskState) -> None:
        """Note that a task may be stolen."""
        super().put_key_in_stealable(ts)
        # Dask looks at all tasks of a kind again, whenever one ends, if their length is not its own mean.
        if self.scheduler.uneven and self.scheduler.speeds.seconds(ts.prefix.name) is not None:
            self.unknown_durations.pop(ts.prefix.name, None)

    def _get_thief(
        self,
        scheduler: SchedulerState,
        ts: TaskState,
        potential_thieves: set[WorkerState],
        *,
        occupancies: dict[WorkerState, float],
    ) -> WorkerState | None:
        if self.scheduler.uneven and len(potential_thieves) > SMALL_ROOM and scheduler.valid_workers(ts) is None:
            # Of many that are idle, a slow one is never the best.
            potential_thieves = set(nlargest(SMALL_ROOM, potential_thieves, key=self.scheduler.pace_of))
        thief = super()._get_thief(scheduler, ts, potential_thieves, occupancies=occupancies)
        victim = ts.processing_on
        if not self.scheduler.uneven or thief is None or victim is None or ts.actor:
            return thief
        # Where it is now, it is done by when all is done that waits there.
        there = self.scheduler.start_on(victim)
        return thief if self.stealing_objective(ts, thief, occupancies=occupancies)[0] < there else None

    def move_task_confirm(self, *, key: str, state: str, stimulus_id: str, worker: str | None = None) -> None:
        """Take note of the victim's answer; a task changes workers without a transition."""
        super().move_task_confirm(key=key, state=state, stimulus_id=stimulus_id, worker=worker)
        ts = self.scheduler.tasks.get(key)
        if ts and ts.processing_on and ts.processing_on.address != worker:
            self.scheduler.note_start(ts.processing_on)
