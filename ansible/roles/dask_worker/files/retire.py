"""Ask the scheduler to move what workers have, and to give them nothing more; they are stopped afterwards."""

import os
import sys
import time

from distributed import Client, Scheduler, Worker

from tritoncluster.nodes import ask_workers

#: In which a worker that is alive answers, on a small host that is busy.
ANSWER = 20.0


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
# It knows itself where it listens; its place may be about to change.
with Client(os.environ.get("DASK_SCHEDULER_ADDRESS", scheduler)) as client:
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    named = [address for address, worker in workers if worker["name"] in names]
    # One that hangs, or whose host has another address, does not answer: what it had is computed again.
    answers = ask_workers(client, named, running, seconds=ANSWER)
    leaving = [address for address, said in answers.items() if isinstance(said, int)]
    if gone := sorted(set(named) - set(leaving)):
        client.run_on_scheduler(forget, gone)
    if leaving:
        move(client, leaving)
        # Dask does not wait for these.
        while time.monotonic() < end and any(said != 0 for said in ask_workers(client, leaving, running).values()):
            time.sleep(0.2)
        move(client, leaving)
        print("retired", *names)
