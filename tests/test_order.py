"""The order of site.yml's plays: from whatever state, after whatever change, one run ends with a whole cluster.

Each cell of the table, what runs before and what changes, is played through in the order that site.yml has.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
import yaml
from conftest import ROOT
from modules import ANSIBLE  # noqa: F401 - finds the filters
from service import to_do

STATES = ("absent", "stopped", "running")
#: What changes -> whether containers are to be made from something else, and whether what runs works with what is new.
CHANGES = {
    "nothing": (False, True),
    "an authority": (False, True),
    "the image": (True, True),
    "Python or Dask": (True, False),
    "the scheduler's address": (True, False),
    "the scheduler's host": (True, False),
}
HERE, ELSEWHERE = "192.168.1.5", "192.168.1.4"


@dataclass
class Room:
    """A scheduler's host and a worker's, and maybe the host that the scheduler was on before."""

    scheduler: str
    worker: str
    change: str
    #: Service -> whether what runs is new; what does not run is not here.
    runs: dict[str, bool] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        states = {"scheduler": self.scheduler, "worker": self.worker}
        if self.change == "the scheduler's host":
            states["old scheduler"], states["scheduler"] = states["scheduler"], "absent"
        changed, self.works = CHANGES[self.change]
        self.runs = {service: not changed for service, state in states.items() if state == "running"}
        registry = ELSEWHERE if self.change.startswith("the scheduler's") else HERE
        old = {"image": f"{registry}:5000/node", "definition": "old" if changed else "new"}
        self.groups = set()
        for service in ("scheduler", "worker"):
            state = {"stopped": "exited"}.get(states[service], states[service])
            containers = {} if state == "absent" else {service: {**old, "state": state}}
            self.groups.add(f"{service}_{to_do(containers, service, {service: 'new'}, HERE)}")
        self.old_scheduler = states.get("old scheduler", "absent") != "absent"

    def play(self, play: dict) -> None:
        """Do what a play of site.yml does, for what matters here."""
        patterns, text = str(play.get("hosts", "")).split(":"), str(play)
        if "talks" in text and "scheduler_replace" in self.groups:
            self.groups.add(f"scheduler_replace_{'last' if self.works else 'first'}")
        elif "tasks/end.yml" in text and self.old_scheduler:
            self.runs.pop("old scheduler", None)
            self.done.append("old scheduler ends")
        elif "'tasks_from': 'start'" in text:
            for service in ("scheduler", "worker"):
                if any(group in self.groups and group.startswith(service) for group in patterns):
                    self.start(service, after_retiring="retire" in text)

    def start(self, service: str, *, after_retiring: bool) -> None:
        if service == "worker":
            assert "scheduler" in self.runs, "a worker without a scheduler does not become healthy"
            assert self.runs["scheduler"] or self.works, "a new worker, and a scheduler that can't work with it"
            assert after_retiring or "worker" not in self.runs or not self.works
        else:
            assert "old scheduler" not in self.runs, "two schedulers, each with workers of its own"
        self.runs[service] = True
        self.done.append(service)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({"anna": "1", "ben": "2"}, "same"),
        ({"anna": "1"}, "replace"),
        ({"anna": "1", "ben": "3"}, "replace"),
        # Who is no longer named.
        ({"anna": "1", "ben": "2", "carl": "4"}, "replace"),
        ({}, "start"),
    ],
)
def test_one_of_a_service_s_containers_comes_or_goes(there: dict[str, str], wanted: str) -> None:
    image = {"image": f"{HERE}:5000/notebook", "state": "running"}
    containers = {f"notebook-{name}": {**image, "definition": each} for name, each in there.items()}
    containers["jobs"] = {**image, "definition": "5"}
    assert to_do(containers, "notebook", {"notebook-anna": "1", "notebook-ben": "2"}, HERE) == wanted
    for name in there:
        stopped = {**containers, f"notebook-{name}": {**containers[f"notebook-{name}"], "state": "exited"}}
        assert to_do(stopped, "notebook", {"notebook-anna": "1", "notebook-ben": "2"}, HERE) != "same"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("scheduler", "worker"), list(itertools.product(STATES, STATES)))
def test_one_run_ends_with_a_whole_cluster(scheduler: str, worker: str, change: str) -> None:
    room = Room(scheduler, worker, change)
    for play in yaml.safe_load((ROOT / "ansible/site.yml").read_text()):
        room.play(play)
    assert room.runs == {"scheduler": True, "worker": True}
    assert len(room.done) == len(set(room.done)), "nothing is started twice"
    if scheduler == worker == "running" and change in ("nothing", "an authority"):
        assert room.done == []
