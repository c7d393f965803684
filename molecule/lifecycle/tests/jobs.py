"""Jobs to disturb, and a witness of what becomes of what workers have."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager

from room import FILES, SCHEDULER, on, until

#: Holds a value that computing it again would change on the first of the workers, until all of them have left once.
WITNESS = """
import json, sys, time, uuid
from distributed import Client

scheduler, *names = sys.argv[1:]
begun = time.time()
with Client(scheduler) as client:
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    addresses = {address for address, worker in workers if worker["name"] in names}
    value = client.submit(uuid.uuid4, workers=names[:1], allow_other_workers=True, pure=False)
    known = value.result()
    print("ready", flush=True)
    while True:
        events = [event for at, event in client.get_events("all") if at > begun]
        left = [event for event in events if event["action"] == "remove-worker" and event["worker"] in addresses]
        if {event["worker"] for event in left} == addresses:
            break
        time.sleep(0.2)
    lost = [event[part] for event in left for part in ("processing-tasks", "lost-computed-tasks") if event[part]]
    print(json.dumps({"left": len(left), "lost": lost, "kept": value.result() == known}))
"""


def ssh(command):
    """Start a command on the scheduler's host."""
    return subprocess.Popen(
        ["ssh", "-F", FILES / "ssh/config", "desktop", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class Job:
    """The option, of so many paths, in the workload container."""

    def __init__(self, paths):
        self.words = ["run", "asian-option", "--paths", str(paths), "--json"]
        self.folder = f"results/{time.time_ns()}"
        run = f"docker compose run --rm --no-TTY workload {' '.join(self.words)} --output {self.folder}"
        self.process = ssh(f"cd /opt/tritoncluster/workload && sudo {run}")
        until(self.is_in_the_middle)

    def is_in_the_middle(self):
        counts = (
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8788/json/counts.json').read().decode())"
        )
        found = json.loads(on("desktop").check_output("python3 -c %s", counts))
        assert self.runs(), self.process.stderr.read()
        return found.get("processing", 0) >= 3

    def runs(self):
        return self.process.poll() is None

    def result(self):
        printed, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        return json.loads(printed)["result"]

    def ended(self):
        """Give when its result was there, in nanoseconds."""
        return int(on("desktop").file(f"/var/lib/tritoncluster/{self.folder}/result.json").mtime.timestamp() * 1e9)

    def result_alone(self, folder):
        """Give what it gives on one machine."""
        command = [sys.executable, "-m", "tritoncluster", *self.words, "--output", folder]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["result"]


@contextmanager
def witness(*leaving):
    """See that workers which leave take nothing with them: neither tasks that they run nor results that they have."""
    quoted = WITNESS.replace('"', "'")
    process = ssh(f'sudo docker exec tritoncluster-scheduler python3 -c "{quoted}" {SCHEDULER} {" ".join(leaving)}')
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    yield
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(printed) == {"left": len(leaving), "lost": [], "kept": True}
