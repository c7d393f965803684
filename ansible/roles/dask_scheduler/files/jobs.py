"""Wait until the scheduler has no work that would be lost with it; say which there is, and exit 1, when it still has.

What waits for a scheduler that is replaced says so on its tasks, and for how many seconds: tritoncluster's own runs.
"""

import os
import sys
import time

from distributed import Client, Scheduler

scheduler, seconds = sys.argv[1], float(sys.argv[2])
#: Seconds in which a scheduler is replaced, on a small host.
REPLACED = 60


def would_be_lost(least: float, dask_scheduler: Scheduler) -> list[str]:
    """List names of tasks, and of data, that nobody would make again."""
    found = set()
    for key, task in dask_scheduler.tasks.items():
        waits = (task.annotations or {}).get("tritoncluster_waits", 0)
        # Arguments of such runs, which are sent again.
        if waits < least and not str(key).startswith("~argument-"):
            found.add(task.prefix.name)
    return sorted(found)


end = time.monotonic() + seconds
# It knows itself where it listens; its place may be about to change.
with Client(os.environ.get("DASK_SCHEDULER_ADDRESS", scheduler)) as client:
    while lost := client.run_on_scheduler(would_be_lost, REPLACED):
        if time.monotonic() > end:
            sys.exit(", ".join(lost[:5]))
        time.sleep(0.5)
