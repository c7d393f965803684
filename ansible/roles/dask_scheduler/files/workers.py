"""Wait for workers by name, and print them as JSON; the scheduler's own page of them fails while jobs run."""

import json
import sys
import time

from distributed import Client

scheduler, seconds, *names = sys.argv[1:]
end = time.monotonic() + float(seconds)
with Client(scheduler) as client:
    while True:
        workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
        missing = sorted(set(names) - {worker["name"] for worker in workers})
        if not missing:
            break
        if time.monotonic() > end:
            sys.exit(f"not there: {' '.join(missing)}; `sudo docker logs tritoncluster-worker` there says why")
        time.sleep(0.2)
kept = ("name", "nthreads", "memory_limit", "resources")
print(json.dumps([{key: worker[key] for key in kept} for worker in workers]))
