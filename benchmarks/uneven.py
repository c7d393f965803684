"""Uneven workers against joblib's Dask backend and the ideal: containers with a share of a processor each.

    .venv/bin/python benchmarks/uneven.py [CLUSTER ...]

Without a cluster's name, all of CLUSTERS. Needs an engine (`eval "$(.ci/engine start)"`) and builds the node image. The
client has a container too, because Python there is another than here. Every ratio is of two things that were timed in
turn, after one of each that does not count (for the rates to be known); the first job on a fresh cluster is timed
apart. The ideal is the sum of the rates of the workers, each measured alone.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _pairs import pairs, seconds, show_machine, show_ratio

HERE = Path(__file__).resolve().parent
IMAGE = "tritoncluster/node:uneven"
CLUSTERS = {
    "two slow": [1.0, 0.25, 0.25],
    "four very slow": [1.0, 0.125, 0.125, 0.125, 0.125],
    "two equal": [1.0, 1.0],
}
REPETITIONS = 3
#: Dask's settings that suit it best here: nothing queued on the workers that another one could take, quick stealing.
TUNED = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING_INTERVAL": "20ms",
}
SCHEDULER = "tcp://uneven-scheduler:8786"


# In the client's container.


def works() -> dict[str, tuple[Callable[[], object], Callable[[object], object] | None]]:
    """Give the pieces of work: with joblib's current backend, and with a map where there is no joblib call."""
    from tritoncluster.jobs.asian_option import AsianOption
    from tritoncluster.jobs.forest import Forest
    from tritoncluster.jobs.grid_search import GridSearch

    forest, option = Forest(trees=2000), AsianOption(paths=200_000)
    train, _, classes, _ = forest.data()
    small, large = GridSearch(samples=2000), GridSearch(samples=8000)
    return {
        "2,000 trees": (lambda: forest.estimator().fit(train, classes), None),
        "grid search, 2,000 samples": (lambda: small.estimator().fit(*small.data), None),
        "grid search, 8,000 samples": (lambda: large.estimator().fit(*large.data), None),
        "200,000 paths": (option.run_with_joblib, option.run),
    }


def with_backend(name: str, work: str) -> None:
    """Do a piece of work on the cluster through joblib's "dask", or our way."""
    from distributed import default_client
    from joblib import parallel_config

    import tritoncluster.balance  # noqa: F401 - it registers "balanced"

    plain, mapped = works()[work]
    if name == "balanced" and mapped:
        mapped(default_client())
        return
    with parallel_config(name):
        plain()


def inside(question: str, work: str) -> None:
    """Answer one question about the cluster, as JSON."""
    from distributed import Client

    with Client(SCHEDULER) as client:
        client.wait_for_workers(int(os.environ["WORKERS"]), timeout=120)
        first = seconds(lambda: with_backend("balanced", work))
        if question == "alone":
            answer = {"seconds": min(seconds(lambda: with_backend("balanced", work)) for _ in range(2))}
        else:
            both = pairs(lambda: with_backend("balanced", work), lambda: with_backend("dask", work), REPETITIONS)
            answer = {"first": first, "pairs": both}
    print(json.dumps(answer))


# Here.


def docker(*arguments: str) -> str:
    """Call docker and give what it printed."""
    command = ["docker", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def cluster(shares: list[float]) -> Iterator[Callable[[str, str], dict]]:
    """Start a scheduler and a worker for each share of a processor; yield what asks the client's container."""
    names = ["uneven-scheduler", *(f"uneven-worker-{number}" for number in range(len(shares)))]
    one_thread = ["--env", "OMP_NUM_THREADS=1", "--env", "OPENBLAS_NUM_THREADS=1"]
    docker("network", "create", "uneven")
    try:
        tuned = [word for name, value in TUNED.items() for word in ("--env", f"{name}={value}")]
        dask = ["python3", "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
        docker("run", "--detach", "--network", "uneven", "--name", names[0], "--no-healthcheck", *tuned, IMAGE, *dask)
        dask = ["python3", "-m", "distributed.cli.dask_worker", SCHEDULER, "--nthreads", "1", "--no-dashboard"]
        dask += ["--no-nanny", "--preload", "tritoncluster.preload", "--local-directory", "/tmp"]  # noqa: S108
        for name in names[1:]:
            docker("run", "--detach", "--network", "uneven", "--name", name, "--no-healthcheck", *one_thread, IMAGE,
                   *dask, "--name", name)  # fmt: skip
        client = ["run", "--rm", "--network", "uneven", "--no-healthcheck", "--env", f"WORKERS={len(shares)}"]
        client += ["--volume", f"{HERE}:/benchmarks:ro", IMAGE, "python3", "/benchmarks/uneven.py", "--inside"]

        def ask(question: str, work: str) -> dict:
            # Workers have imported all they need: now each gets its share.
            for name, share in zip(names[1:], shares, strict=True):
                docker("update", "--cpus", str(share), name)
            return json.loads(docker(*client, question, work).splitlines()[-1])

        yield ask
    finally:
        docker("rm", "--force", *names)
        docker("network", "rm", "uneven")


def compare(title: str, shares: list[float], work: str, alone: dict[tuple[str, float], float]) -> None:
    """Show how a cluster does a piece of work in both ways."""
    for share in sorted(set(shares)):
        if (work, share) not in alone:
            with cluster([share]) as ask:
                alone[work, share] = ask("alone", work)["seconds"]
    ideal = 1 / sum(1 / alone[work, share] for share in shares)
    with cluster(shares) as ask:
        answer = ask("pairs", work)
    times = [(ours, theirs) for ours, theirs in answer["pairs"]]
    show_ratio(f"{title}, {work}: ours against joblib's dask", times, "at most 1.05")
    for name, column, aim in (("ours", 0, 0.92 if "grid" in work else 0.95), ("joblib's dask", 1, None)):
        found = sorted(ideal / pair[column] for pair in times)
        print(f"  efficiency, {name}: median {statistics.median(found):.2f}, least {found[0]:.2f}; aim {aim or 'none'}")
    print(f"  efficiency, ours, first job: {ideal / answer['first']:.2f}; aim 0.85", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        show_machine()
        subprocess.run([HERE.parent / "docker/bake", "node", "--set", f"node.tags={IMAGE}"], check=True)
        known: dict[tuple[str, float], float] = {}
        for chosen in sys.argv[1:] or CLUSTERS:
            for each in works():
                compare(chosen, CLUSTERS[chosen], each, known)
