"""Ask the scheduler to move what workers have, and to give them nothing more; they are stopped afterwards."""

import sys

from distributed import Client

scheduler, *names = sys.argv[1:]
with Client(scheduler) as client:
    there = {worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
    if leaving := [name for name in names if name in there]:
        left = client.retire_workers(names=leaving, close_workers=False, remove=False)
        if len(left) < len(leaving):
            sys.exit("the data of these workers has no other place: add a worker, or stop the job")
        print("retired", *leaving)
