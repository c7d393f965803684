"""What is replaced in Dask's scheduler, which does not promise to keep it; nothing else touches its inside.

One scheduler and its work stealing become instances of subclasses; others in this process stay as they are. As long as
workers are equally fast, as far as is known, Dask's own methods decide.
"""

from typing import cast

from distributed import Scheduler

from tritoncluster.placement.replaced.scheduler import SpeedAwareScheduler
from tritoncluster.placement.replaced.stealing import SpeedAwareStealing
from tritoncluster.placement.speeds import Speeds


def install(scheduler: Scheduler, speeds: Speeds) -> SpeedAwareScheduler:
    """Let a scheduler that has not begun to place tasks know of speeds, and give it as what it is then."""
    scheduler.__class__ = SpeedAwareScheduler
    scheduler = cast("SpeedAwareScheduler", scheduler)
    scheduler.speeds, scheduler.uneven = speeds, False
    scheduler.pace, scheduler.fastest, scheduler.scale, scheduler.by_pace = {}, 1.0, 1.0, []
    scheduler.began, scheduler.held = {}, set()
    scheduler.deadline = scheduler.planned = scheduler.stolen = scheduler.weighed = scheduler.stealing_took = 0.0
    scheduler.unit, scheduler.variation, scheduler.seceded = scheduler.UNKNOWN_TASK_DURATION, 0.0, set()
    scheduler.asked = scheduler.planned_for = None
    # Those were bound before.
    scheduler.stream_handlers["long-running"] = scheduler.handle_long_running
    if stealing := scheduler.extensions.get("stealing"):
        stealing.__class__ = SpeedAwareStealing
        scheduler.stream_handlers["steal-response"] = stealing.move_task_confirm
    return scheduler
