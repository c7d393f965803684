"""What breaks, breaks alone, and heals by itself."""

import pytest
from compose_project import Project, complaint, finish

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

#: Takes memory on one worker until it dies: in steps, as a list grows, or in one go, for which no nanny is fast enough.
HOG = """
import sys, time
from distributed import Client, KilledWorker

def take(step):
    held = []
    while True:
        held.append(b"x" * (step * 2**20))
        time.sleep(0.05)

def pid():
    import os
    return os.getpid()

client = Client()
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
victim, other = sorted(client.scheduler_info()["workers"])
before = client.run(pid)
hog = client.submit(take, int(sys.argv[1]), workers=[victim])
try:
    hog.result(60)
except KilledWorker:
    print("killed")
client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))
client.wait_for_workers(2, timeout=60)
after = client.run(pid)
print(victim in after and after[victim] != before[victim], after[other] == before[other])
"""


@pytest.mark.parametrize("step", [20, 2000])
def test_a_worker_that_takes_too_much_memory_dies_alone(project: Project, step: int) -> None:
    def starts() -> list[tuple[str, int]]:
        kept = ("scheduler", "worker", "gateway")
        return [(c["State"]["StartedAt"], c["RestartCount"]) for service in kept for c in project.inspect(service)]

    (project.scripts / "hog.py").write_text(HOG)
    before = starts()
    done = project.workload("submit", "hog.py", str(step))
    assert done.returncode == 0, done.stderr + project.log()
    assert done.stdout.split() == ["killed", "True", "True"]
    # The nanny outlives its worker, and so does the container.
    assert starts() == before
    project.wait_until_healthy()


def test_a_killed_scheduler_ends_the_job_in_one_line_and_the_cluster_heals(project: Project) -> None:
    process = project.start_workload("run", "asian-option", "--paths", "3000000", "--output", "results/lost")
    project.wait_until_busy()
    project.kill(*project.names("scheduler"))
    done = finish(process)
    assert "asian-option failed" in complaint(done)
    assert project.wait_until_healthy() < 90
    assert project.workload("run", "asian-option", "--paths", "5000").returncode == 0


def test_a_killed_gateway_comes_back(project: Project) -> None:
    project.kill(*project.names("gateway"))
    project.wait_until_healthy(seconds=30)
