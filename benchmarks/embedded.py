"""The jobs on an embedded cluster against joblib's threads and processes, and the option's rate.

Every comparison is a ratio of two things that were timed in turn in this run.
"""

import statistics
import subprocess
import sys

import psutil
from _pairs import pairs, seconds, show_machine, show_ratio
from distributed import Client
from joblib import cpu_count, parallel_config

from tritoncluster.cluster import connect
from tritoncluster.jobs import Job
from tritoncluster.jobs.asian_option import DELAYED_PATHS, AsianOption
from tritoncluster.jobs.forest import Forest
from tritoncluster.jobs.grid_search import GridSearch

REPETITIONS = 3


def against(job: Job, backend: str, client: Client, aim: str) -> None:
    """Compare the cluster with one of joblib's own backends."""

    def locally() -> None:
        with parallel_config(backend, n_jobs=cpu_count()):
            job.run_with_joblib()

    title = f"{job.name} on the cluster against joblib's {backend}"
    show_ratio(title, pairs(lambda: job.run(client), locally, REPETITIONS), aim)


def option_rate() -> None:
    """Show path steps a second and core, and how two cores compare with one."""
    option = AsianOption()
    steps = (option.paths or 0) * option.days
    with connect(workers=1) as one, connect(workers=2) as two:
        times = pairs(lambda: option.run(one), lambda: option.run(two), REPETITIONS)
    show_ratio("asian-option on one worker against two", times, "at least 1.8")
    rate = steps / statistics.median(single for single, _ in times) / 1e6
    print(f"asian-option: {rate:.0f} million path steps a second and core; aim at least 60")


def option_against_poster(client: Client) -> None:
    """Show a path's time as one task of many, over its time in a block."""
    option = AsianOption(paths=400_000)
    (_loop, (_name, share, one_task_a_path)) = option.posters_ways(client)
    times = pairs(lambda: [one_task_a_path()], lambda: option.run(client), 3)
    scaled = [(posters / share, ours) for posters, ours in times]
    show_ratio(f"asian-option, one task a path ({DELAYED_PATHS} paths, scaled) against ours", scaled, "at least 50")


def option_memory(client: Client) -> None:
    """Show a worker's memory after few and after many paths."""

    def largest() -> float:
        return max(client.run(lambda: psutil.Process().memory_info().rss).values()) / 2**20

    AsianOption(paths=50_000).run(client)
    before = largest()
    AsianOption(paths=3_000_000).run(client)
    print(f"asian-option: a worker has {before:.0f} MiB after 50,000 paths, {largest():.0f} MiB after 3,000,000")


def help_time() -> None:
    """Show how long --help takes."""
    times = [seconds(lambda: subprocess.run([sys.executable, "-m", "tritoncluster", "--help"], check=True,
                                            stdout=subprocess.DEVNULL)) for _ in range(REPETITIONS)]  # fmt: skip
    print(f"tritoncluster --help: {statistics.median(times):.2f} s; aim 0.3")


if __name__ == "__main__":
    show_machine()
    help_time()
    with connect() as client:
        against(Forest(), "threading", client, "at most 1.15")
        against(GridSearch(samples=2000), "loky", client, "at most 1.15")
        option_against_poster(client)
        option_memory(client)
    option_rate()
