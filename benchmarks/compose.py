"""The cluster of compose.yaml: how soon it is there, and what TLS and containers cost against the embedded cluster.

Also how much time is lost with a scheduler that is killed.
Takes the engine and the images that `make images` leaves. The project has a name of its own, and is removed at the end.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _pairs import pairs, seconds, show_machine, show_ratio, show_seconds

REPETITIONS = 3
ROOT = Path(__file__).resolve().parent.parent
NODE = "tritoncluster/node:local"
PROJECT = f"tritoncluster-benchmark-{os.getpid()}"
WORKLOAD = ["docker", "compose", "--project-name", PROJECT, "run", "--rm", "--no-deps", "-T", "workload"]
numbers = itertools.count()
#: Seconds for which a scheduler is away; and after which it is killed, of a run of half a minute or more.
AWAY, KILLED_AFTER = 5.0, 12.0
#: About ten seconds of work each on two cores.
JOBS = {
    "forest": ["forest", "--trees", "8000"],
    "grid-search": ["grid-search", "--samples", "3000"],
    "asian-option": ["asian-option", "--paths", "1000000"],
}


def run(*words: object) -> str:
    """Run a command; what it prints on standard error is for a failure alone."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} exited {done.returncode}:\n{done.stderr}")
    return done.stdout


def compose(*words: object) -> str:
    """Run a compose command on the benchmark's own project."""
    return run("docker", "compose", "--project-name", PROJECT, *words)


def start() -> None:
    """Start all but the workload, from no container; secrets are made as at a first start."""
    compose("up", "--detach", "--no-build", "--wait", "scheduler", "worker", "gateway")


def down() -> None:
    """Remove all."""
    compose("down", "--volumes", "--timeout", "2")


def time_to_healthy() -> None:
    """Show the time from nothing, and then to the end of the demonstration."""
    healthy, demo = [], []
    for _ in range(REPETITIONS):
        healthy.append(seconds(start))
        demo.append(seconds(lambda: compose("run", "--rm", "-T", "workload")))
        down()
    show_seconds("up to a healthy cluster", healthy, "at most 15")
    show_seconds("then the demonstration", demo, "none")


def work(folder: object, *command: str) -> Callable[[], float]:
    """Give a call that runs a job, each time into a new folder in `folder`, and returns the seconds of its work."""
    return lambda: json.loads(run(*command, "--output", f"{folder}/{next(numbers)}", "--json"))["seconds"]


def cost() -> None:
    """Show the time of the work in the containers over that of embedded clusters, here and in one container."""
    folder = Path(os.environ["RESULTS"]).parent
    start()
    for name, job in JOBS.items():
        words = ["run", *job]
        container = ["docker", "run", "--rm", "--init", "--network=none", NODE, "tritoncluster"]
        ours = work("results", *WORKLOAD, *words)
        others = {
            "an embedded cluster": work(folder, sys.executable, "-m", "tritoncluster", *words),
            "one in a container": work("/work", *container, *words),
        }
        for what, theirs in others.items():
            show_ratio(f"{name} in containers, with TLS, against {what}", pairs_of(ours, theirs), "at most 1.10")


def lost_with_a_scheduler() -> None:
    """Show by how much longer than its scheduler was away a run takes when that is killed in the middle."""
    start()
    scheduler = compose("ps", "--quiet", "scheduler").strip()

    def killed() -> None:
        time.sleep(KILLED_AFTER)
        run("docker", "kill", scheduler)
        time.sleep(AWAY)
        run("docker", "start", scheduler)

    job = work("results", *WORKLOAD, "run", "asian-option", "--paths", "4000000")
    lost = []
    for _ in range(REPETITIONS):
        undisturbed = job()
        with ThreadPoolExecutor(1) as thread:
            ending = thread.submit(killed)
            lost.append(job() - undisturbed - AWAY)
            ending.result()
    show_seconds(f"lost beyond the {AWAY:.0f} s for which a scheduler was away", lost, "at most 15")


def pairs_of(ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
    """Take turns, with the times that the two report themselves."""
    return [(ours(), theirs()) for _ in range(REPETITIONS)]


def cold_import() -> None:
    """Show how long Python takes for the heavy packages, in a new container, over a new container alone."""
    container = ["docker", "run", "--rm", "--network=none", NODE, "python3", "-c"]
    heavy = "import distributed, sklearn.svm, pandas, bokeh"
    times = pairs(lambda: run(*container, heavy), lambda: run(*container, ""), REPETITIONS)
    show_ratio("importing the heavy packages, in a new container, against an empty program", times, "none")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {each.__name__: each for each in (cold_import, time_to_healthy, cost, lost_with_a_scheduler)}
    parser.add_argument(
        "parts", nargs="*", choices=[*parts, []], metavar="PART", help=f"{', '.join(parts)}; all by default"
    )
    given = parser.parse_args()
    show_machine()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()
        shutil.chown(results, 1000, 1000) if os.getuid() == 0 else None
        Path(folder).chmod(0o755)
        os.environ |= {"RESULTS": str(results), "SCHEDULER_PORT": "0", "DASHBOARD_PORT": "0"}
        if os.getuid():
            os.environ |= {"UID": str(os.getuid()), "GID": str(os.getgid())}
        try:
            for part in given.parts or parts:
                parts[part]()
        finally:
            down()
