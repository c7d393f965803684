"""A job whose result is known, and which lasts until a file beside it says that it is enough.

squares.py [LEAVE ...]: tells of the workers with these names when they left and came back, and what was lost with them.
"""

import itertools
import json
import pathlib
import sys
import time
import uuid
from collections import Counter

from distributed import Client, as_completed, get_worker


def square(number: int) -> tuple[int, int]:
    """Take as long on any machine."""
    get_worker().log_event("squares", number)
    time.sleep(0.2)
    return number, number * number


leaving = set(sys.argv[1:])
enough = pathlib.Path(__file__).with_name("enough")
begun = time.time()
with Client() as client:

    def there() -> dict[str, str]:
        """Give address -> name of the workers."""
        workers = client.scheduler_info(n_workers=-1)["workers"]
        return {address: worker["name"] for address, worker in workers.items()}

    while missing := leaving - set(there().values()):
        print("waits for", *missing, file=sys.stderr, flush=True)
        time.sleep(1)
    addresses = {address for address, name in there().items() if name in leaving}
    # A result on one that leaves, which computing it again would change.
    value = client.submit(uuid.uuid4, workers=sorted(addresses)[:1], allow_other_workers=True, pure=False)
    known = value.result()
    numbers = itertools.count()
    # By Dask's own placement: the queue of tritoncluster.balance gives to others too what a leaving worker has.
    work = as_completed(client.map(square, list(itertools.islice(numbers, 40)), pure=False))
    left: dict[str, dict] = {}
    begins: set[tuple[float, int]] = set()
    exact = True
    for done, future in enumerate(work):
        number, result = future.result()
        exact &= result == number * number
        work.add(client.submit(square, next(numbers), pure=False))
        if done % 20:
            continue
        ends = enough.exists()
        for at, event in client.get_events("all"):
            worker = event.get("worker")
            if at < begun or worker not in addresses:
                continue
            if event["action"] == "remove-worker":
                left[worker] = {"at": at, **event}
            elif event["action"] == "add-worker" and worker in left:
                left[worker]["back"] = at
        begins |= {(at, number) for at, number in client.get_events("squares") if at > begun}
        if ends:
            break
    found = {
        "exact": exact,
        "kept": value.result() == known,
        "lost": [key for event in left.values() for key in event["lost-computed-tasks"]],
        "twice": [number for number, times in Counter(number for _, number in begins).items() if times > 1],
        "left": list(left.values()),
        "ended": time.time(),
    }
print(json.dumps(found, default=str))
