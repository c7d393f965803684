"""Ask the scheduler to move what workers have, and to give them nothing more; they are stopped afterwards."""

import sys
import time

from distributed import Client, Scheduler, Worker


def running(dask_worker: Worker) -> int:
    """Count the tasks that a worker is computing."""
    return len(dask_worker.state.executing) + len(dask_worker.state.long_running)


def move(client: Client, workers: list[str]) -> None:
    """Have results moved from workers, which get nothing new to do."""
    if len(client.retire_workers(workers, close_workers=False, remove=False)) < len(workers):
        sys.exit("the data of these workers has no other place: add a worker, or stop the job")


async def forget(addresses: list[str], dask_scheduler: Scheduler) -> None:
    """Have the scheduler forget workers, which it would notice later; until then no other may have their names."""
    for address in addresses:
        await dask_scheduler.remove_worker(address, stimulus_id="gone", expected=True)


scheduler, seconds, *names = sys.argv[1:]
end = time.monotonic() + float(seconds)
with Client(scheduler) as client:
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    named = [address for address, worker in workers if worker["name"] in names]
    # A host whose address has changed does not answer: what its worker had is computed again.
    leaving = list(client.run(running, workers=named, on_error="ignore")) if named else []
    if gone := sorted(set(named) - set(leaving)):
        client.run_on_scheduler(forget, gone)
    if leaving:
        move(client, leaving)
        # Dask does not wait for these.
        while sum(client.run(running, workers=leaving, on_error="ignore").values()) and time.monotonic() < end:
            time.sleep(0.2)
        move(client, leaving)
        print("retired", *names)
