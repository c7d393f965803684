"""Ask the scheduler to move what workers have, and to give them nothing more; they are stopped afterwards."""

import sys
import time

from distributed import Client, Worker


def running(dask_worker: Worker) -> int:
    """Count the tasks that a worker is computing."""
    return len(dask_worker.state.executing) + len(dask_worker.state.long_running)


def move(client: Client, workers: list[str]) -> None:
    """Have results moved from workers, which get nothing new to do."""
    if len(client.retire_workers(workers, close_workers=False, remove=False)) < len(workers):
        sys.exit("the data of these workers has no other place: add a worker, or stop the job")


scheduler, seconds, *names = sys.argv[1:]
end = time.monotonic() + float(seconds)
with Client(scheduler) as client:
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    if leaving := [address for address, worker in workers if worker["name"] in names]:
        move(client, leaving)
        # Dask does not wait for these.
        while sum(client.run(running, workers=leaving, on_error="ignore").values()) and time.monotonic() < end:
            time.sleep(0.2)
        move(client, leaving)
        print("retired", *names)
