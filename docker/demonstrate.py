"""Runs the three jobs once for each cluster, when it starts for the first time."""

import os
import pathlib
import subprocess
import sys
import time
from contextlib import suppress

#: In a volume, which goes with the cluster.
DONE = pathlib.Path("/run/demonstrated/done")
#: Seconds for a worker to be there; then for all to be, when one is: it would do.
FOR_ONE, FOR_ALL = 300, 30
LINGER = 5


def wait_for_workers(number: int) -> None:
    """Wait until one is there, and a while for all; what does not come, the jobs say."""
    from distributed import Client

    with suppress(OSError), Client(timeout=FOR_ONE, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=FOR_ONE)
        client.wait_for_workers(number, timeout=FOR_ALL)


def main() -> None:
    """Run them, unless they ran."""
    if DONE.exists():
        print("The three jobs ran when this cluster first started; again: docker compose run --rm workload run all")
        sys.stdout.flush()
        # `docker compose up --wait` takes a container that ends before it was seen for a failure.
        time.sleep(LINGER)
        return
    wait_for_workers(int(os.environ["WORKERS"]))
    status = subprocess.run(["/usr/local/bin/tritoncluster", "run", "all", "--demo"], check=False).returncode
    if status == 0:
        DONE.touch()
    sys.exit(status)


if __name__ == "__main__":
    main()
