"""The three jobs on unlike hosts: everyone did a part, and results are those of one machine."""

import json
import time

import pytest
from conftest import ADDRESSES, HOSTS, WORKERS, alone, log, on

#: Enough work that the slowest is of use, too: it gets nothing that others would have done before its answer came.
JOBS = {
    "forest": ["--trees", "2000"],
    "grid-search": ["--samples", "600"],
    "asian-option": ["--paths", "400000"],
}
COUNT = """
import json
from distributed import Client
with Client("tls://%s:8786") as client:
    info = client.scheduler_info(n_workers=-1)["workers"]
    counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    print(json.dumps({info[address]["name"]: count for address, count in counts.items()}))
"""


def executed(host):
    """Ask each worker how many tasks it has run."""
    script = COUNT % ADDRESSES["desktop"]
    return json.loads(host.check_output("docker exec tritoncluster-scheduler python3 -c %s", script))


def without_times(result):
    """Leave out what differs from run to run."""
    for column in ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"):
        result.get("cv_results", {}).pop(column, None)
    return result


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "job", ["forest", *(pytest.param(job, marks=pytest.mark.slow) for job in ("grid-search", "asian-option"))]
)
def test_a_job_runs_on_all_three(job):
    host = on("desktop")
    before = executed(host)
    words = " ".join(["run", job, *JOBS[job], "--json", "--output", f"results/{job}-{time.time_ns()}"])
    done = host.run(f"cd /opt/tritoncluster/workload && docker compose run --rm --no-TTY workload {words}")
    assert done.rc == 0, done.stderr + "".join(log(on(name), "worker") for name in HOSTS)
    after = executed(host)
    assert set(after) == set(WORKERS)
    assert all(after[name] > before[name] for name in WORKERS), (before, after)
    assert without_times(json.loads(done.stdout)["result"]) == without_times(alone(job, *JOBS[job])["result"])


def test_a_task_can_ask_for_an_architecture():
    script = """
import platform
from distributed import Client
with Client("tls://%s:8786") as client:
    print(client.submit(platform.machine, resources={"aarch64": 1}, pure=False).result(60))
"""
    host = on("desktop")
    asked = host.check_output("docker exec tritoncluster-scheduler python3 -c %s", script % ADDRESSES["desktop"])
    assert asked == "aarch64"
