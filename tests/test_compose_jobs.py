"""The jobs in containers give what they give embedded, whatever happens to the workers."""

from typing import Any

import pytest
from compose_project import JOBS, Project, assert_same, finish, result, wait_for

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]


def options(job: str) -> list[str]:
    return ["run", *JOBS[job], "--json", "--output", f"results/{job}"]


@pytest.fixture(autouse=True)
def no_results(project: Project) -> None:
    for job in JOBS:
        for path in (project.results / job).glob("*"):
            path.unlink()


def test_grid_search(project: Project, embedded: dict[str, Any]) -> None:
    assert_same("grid-search", result(project.workload(*options("grid-search"))), embedded["grid-search"])


@pytest.mark.slow
def test_two_workload_containers_at_once(project: Project, embedded: dict[str, Any]) -> None:
    running = {job: project.start_workload(*options(job)) for job in ("forest", "asian-option")}
    for job, process in running.items():
        assert_same(job, result(finish(process)), embedded[job])


@pytest.mark.parametrize(
    "job", ["grid-search", *(pytest.param(job, marks=pytest.mark.slow) for job in ("forest", "asian-option"))]
)
def test_a_worker_is_killed_in_the_middle(project: Project, embedded: dict[str, Any], job: str) -> None:
    process = project.start_workload(*options(job))
    project.wait_until_busy()
    project.kill(project.names("worker")[0])
    assert process.poll() is None
    assert_same(job, result(finish(process)), embedded[job])
    project.wait_until_healthy()


@pytest.mark.slow
def test_scaling_up_and_down_while_a_job_runs(project: Project, embedded: dict[str, Any]) -> None:
    process = project.start_workload(*options("asian-option"))
    # With what it depends on, or this worker is not as the others are, and the next `up` replaces it.
    scale = ["up", "--detach", "--no-build", "--no-recreate", "--timeout", "5"]
    project.compose(*scale, "--scale", "worker=3", "worker")
    wait_for(lambda: len(project.workers()) == 3, 60, project.log)
    during = process.poll() is None
    project.compose(*scale, "--scale", "worker=1", "worker")
    assert_same("asian-option", result(finish(process)), embedded["asian-option"])
    assert during, "the job ended before the third worker came"
    project.compose(*scale, "--scale", "worker=2", "worker")
    project.wait_until_healthy()
