"""What runs on which host: cluster.py among the filters."""

import pytest
from cluster import ENDING, IMAGES, images, services, to_end
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {"scheduler": ["desktop"], "workers": ["desktop", "pi"]}
OF_SCHEDULER = ["scheduler", "jobs", "gateway", "registry"]
NAMES = {image: f"registry/{image}@sha256:1" for image in ("node", "gateway", "notebook")}


@pytest.mark.parametrize(
    ("host", "clock", "notebooks", "wanted"),
    [
        ("desktop", "", False, [*OF_SCHEDULER, "worker"]),
        ("desktop", "scheduler", True, [*OF_SCHEDULER, "notebook", "worker", "clock"]),
        ("desktop", "192.168.1.1", False, [*OF_SCHEDULER, "worker"]),
        ("pi", "scheduler", True, ["worker"]),
        # One that leaves.
        ("tablet", "scheduler", True, []),
    ],
)
def test_what_runs_on_a_host(host, clock, notebooks, wanted):
    assert services(host, GROUPS, clock, notebooks=notebooks) == wanted


def test_a_scheduler_s_host_need_not_compute():
    assert services("desktop", GROUPS | {"workers": ["pi"]}, "", notebooks=False) == OF_SCHEDULER


def test_where_there_are_notebooks_they_are_jobs_too():
    assert images(["scheduler", "jobs", "gateway", "registry"], NAMES, notebooks=False) == {
        "scheduler": NAMES["node"],
        "jobs": NAMES["node"],
        "gateway": NAMES["gateway"],
    }
    assert images(["jobs", "notebook"], NAMES, notebooks=True) == dict.fromkeys(("jobs", "notebook"), NAMES["notebook"])
    assert images(["worker"], {"node": NAMES["node"]}, notebooks=False) == {"worker": NAMES["node"]}


@pytest.mark.parametrize(
    ("there", "wanted", "ends"),
    [
        (["scheduler", "workload", "jobs", "gateway", "registry"], OF_SCHEDULER, []),
        (["scheduler", "workload", "jobs", "gateway", "registry", "worker"], ["worker"], [*ENDING[1:2], *ENDING[3:]]),
        (["notebook", "worker"], ["worker"], ["notebook"]),
        (["worker"], [], ["worker"]),
        # Somebody else's.
        (["wiki"], [], []),
    ],
)
def test_what_is_not_wanted_ends(there, wanted, ends):
    assert to_end(there, wanted) == ends


@given(st.sets(st.sampled_from(["desktop", "pi"])), st.booleans())
def test_what_was_deployed_stays(workers, notebooks):
    here = services("desktop", {"scheduler": ["desktop"], "workers": workers}, "", notebooks=notebooks)
    assert to_end([*here, "workload"], here) == []
    assert images(here, NAMES, notebooks=notebooks).keys() == {*here} & {*IMAGES}
