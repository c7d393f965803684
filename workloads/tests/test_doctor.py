import json
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from command import tritoncluster
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT
from remote import remote
from worker_processes import pretend, stopped, wait_for, worker_process

from tritoncluster.cluster import connect
from tritoncluster.doctor import Finding, examine
from tritoncluster.nodes import workers

CHECKS = [
    "workers",
    "versions",
    "image",
    "connections",
    "clocks",
    "architectures",
    "memory",
    "spilling",
    "folders",
    "processors",
    "numerical threads",
    "arithmetic",
]
#: Generous: what ends by then does not hang.
NOT_FOR_EVER = 90
#: A folder that is memory, where there is one.
MEMORY_FOLDER = next(filter(Path.is_dir, [Path("/", "dev", "shm")]), None)
#: Nothing listens on the port of the discard service.
CLOSED_PORT = "tcp://127.0.0.1:9"


def sane(finding: Finding) -> bool:
    """One line each, and something to do exactly where something is wrong."""
    lines = len(f"{finding.where}{finding.detail}{finding.remedy}".splitlines())
    return lines == 1 and finding.ok == (not finding.remedy) and bool(finding.detail)


def test_embedded_cluster_is_well():
    with connect() as client:
        findings = list(examine(client))
    assert [finding for finding in findings if not finding.ok] == []
    assert [finding.check for finding in findings if finding.check != "power"] == CHECKS
    assert all(map(sane, findings))


def test_findings_come_as_checks_finish(client: Client):
    started = time.monotonic()
    first = next(examine(client))
    assert first.check == "workers"
    assert time.monotonic() - started < NOT_FOR_EVER


def test_busy_workers_are_examined_and_go_on(client: Client):
    tasks = client.map(time.sleep, [3] * 4, pure=False)
    arithmetic = [finding for finding in examine(client) if finding.check == "arithmetic"]
    assert [finding.ok for finding in arithmetic] == [True]
    assert client.gather(tasks) == [None] * 4


#: What a worker's process runs first; without a nanny, twice.
BROKEN = """
import numpy, time
if time.time.__name__ == "time":
    product, clock = numpy.matmul, time.time
    numpy.matmul = lambda left, right: product(left, right) + (left.dtype.kind == "f")
    numpy.random.PCG64 = numpy.random.SFC64
    time.time = lambda: clock() - 7
"""
#: What takes long to import on a busy machine, and the doctor needs.
IMPORTS = "import sklearn.datasets, sklearn.svm, sklearn.tree"
ANOTHER_PYTHON = """
import sys, types
import distributed.versions
release = {**vars(sys), "version_info": (3, 99, 1, "final", 0)}
distributed.versions.sys = types.SimpleNamespace(**release)
"""


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """List what the doctor finds in a cluster where each worker but the first has ailments of its own."""
    folder = tmp_path_factory.mktemp("ward")
    (folder / "broken.py").write_text(BROKEN)
    (folder / "imports.py").write_text(IMPORTS)
    (folder / "another_python.py").write_text(ANOTHER_PYTHON)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("TRITONCLUSTER_IMAGE", "registry/node@sha256:1")
        client = stack.enter_context(connect(workers=1))

        scratch = stack.enter_context(TemporaryDirectory(dir=MEMORY_FOLDER, ignore_cleanup_errors=True))

        def admit(name: str, *options: str, **environment: str) -> None:
            stack.enter_context(worker_process(client, folder, name, *options, environment=environment))

        admit(
            "misconfigured",
            *("--memory-limit", "0", "--nthreads", str(CPU_COUNT + 1), "--preload", str(folder / "imports.py")),
            **pretend(folder, scikit_learn="0.1", tritoncluster="99.0"),
            TRITONCLUSTER_IMAGE="registry/node@sha256:2",
            OMP_NUM_THREADS="4",
        )
        admit(
            "broken",
            *("--preload", str(folder / "broken.py"), "--preload", str(folder / "imports.py")),
            *("--local-directory", scratch),
            TRITONCLUSTER_IMAGE="",
        )
        admit("another python", "--preload", str(folder / "another_python.py"))
        admit("unreachable", "--listen-address", "tcp://127.0.0.1:0", "--contact-address", CLOSED_PORT)
        wait_for(client, 5)
        return list(examine(client))


def ailments(ward: list[Finding], worker: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for finding in ward:
        if worker in finding.where and not finding.ok and finding.check != "processors":
            found[finding.check] = f"{found.get(finding.check, '')}{finding.detail}; "
    return found


def test_each_finding_says_what_to_do(ward: list[Finding]):
    assert [finding for finding in ward if not sane(finding)] == []


def test_worker_that_took_all_memory_for_itself(ward: list[Finding]):
    found = ailments(ward, "worker 0")
    assert set(found) == {"memory"}
    assert "promised" in found["memory"]


def test_misconfigured_worker(ward: list[Finding]):
    found = ailments(ward, "misconfigured")
    assert set(found) == {"versions", "image", "memory", "numerical threads"}
    assert f"scikit-learn is 0.1, {version('scikit-learn')} on the client" in found["versions"]
    assert f"tritoncluster is 99.0, {version('tritoncluster')} on the client" in found["versions"]
    assert "runs registry/node@sha256:2, the cluster runs registry/node@sha256:1" in found["image"]
    assert "no memory limit" in found["memory"]
    assert "libgomp 4" in found["numerical threads"]


def test_broken_worker(ward: list[Finding]):
    found = ailments(ward, "broken")
    assert set(found) == {"image", "memory", "clocks", "arithmetic"} | ({"spilling"} if MEMORY_FOLDER else set())
    assert "outside of an image" in found["image"]
    assert "nothing enforces its limit of 300.00 MiB" in found["memory"]
    assert "7.0 s behind the scheduler's" in found["clocks"]
    assert "product of matrices (numpy, double) off by 1; " in found["arithmetic"]
    assert "another random stream than with the same packages elsewhere" in found["arithmetic"]
    assert "predictions" not in found["arithmetic"]
    assert not MEMORY_FOLDER or "memory itself (tmpfs)" in found["spilling"]


def test_worker_with_another_python_runs_nothing_of_ours(ward: list[Finding]):
    found = ailments(ward, "another python")
    assert set(found) == {"versions"}
    assert found["versions"].startswith("python is 3.99.1")


def test_unreachable_worker(ward: list[Finding]):
    found = ailments(ward, "unreachable")
    assert found == {"workers": f"not reached from the scheduler at {CLOSED_PORT}: Connection refused; "}


def test_more_threads_than_processors(ward: list[Finding]):
    (finding,) = (finding for finding in ward if finding.check == "processors")
    assert finding.detail.startswith(f"{CPU_COUNT + 3} threads on {CPU_COUNT} CPU")
    assert "misconfigured" in finding.where


def test_memory_promised_twice():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=MEMORY_LIMIT, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        found = [finding for finding in examine(client) if not finding.ok and finding.check == "memory"]
    assert found
    assert all(finding.where == "worker 0, worker 1" and "--memory-limit" in finding.remedy for finding in found)


@dataclass(frozen=True)
class Sick:
    """What `doctor --json` said of a cluster where all but the worker "sound" do not answer, and what they are."""

    status: int
    content: dict[str, Any]
    pids: dict[str, int]

    def wrong(self) -> dict[str, dict[str, Any]]:
        found = [finding for finding in self.content["findings"] if not finding["ok"] and finding["where"] != "client"]
        assert len({finding["where"] for finding in found}) == len(found)
        return {finding["where"]: finding for finding in found}


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Sick:
    folder = tmp_path_factory.mktemp("sick")
    with (
        remote(folder, workers=0) as cluster,
        Client(cluster.address, set_as_default=False) as client,
        ExitStack() as stack,
    ):
        for name in ("sound", "stopped", "paused", "busy"):
            options = ("--nanny", "--memory-limit", "1GiB", "--preload", "tritoncluster.preload")
            stack.enter_context(worker_process(client, folder, name, *options))
        wait_for(client, 4)
        of = {worker.name: worker.address for worker in workers(client)}
        running = client.run(os.getpid)
        pids = {name: running[address] for name, address in of.items()}
        # One call that keeps Python's lock, for longer than any test takes.
        endless = client.submit(sum, range(10**13), workers=["busy"])
        stack.callback(os.kill, pids["busy"], signal.SIGKILL)
        gone = ("--listen-address", "tcp://127.0.0.1:0", "--contact-address", CLOSED_PORT)
        stack.enter_context(worker_process(client, folder, "unreachable", *gone))
        wait_for(client, 5)
        with stopped(pids["stopped"], pids["paused"], psutil.Process(pids["paused"]).ppid()):
            done = tritoncluster(folder, "--scheduler", cluster.address, "doctor", "--json")
        endless.release()
    return Sick(done.returncode, json.loads(done.stdout), pids)


def test_sick_workers_are_found(sick: Sick):
    assert sick.status == 1
    assert sick.content["ok"] is False
    assert sick.content["error"] is None


def test_each_sick_worker_is_one_line(sick: Sick):
    wrong = sick.wrong()
    ailing = ("stopped", "paused", "unreachable")
    assert [wrong[name]["check"] for name in ailing] == ["workers"] * len(ailing)
    assert wrong["stopped"]["detail"].endswith(f"does not answer: process {sick.pids['stopped']} is stopped")
    assert f"kill -CONT {sick.pids['stopped']}" in wrong["stopped"]["remedy"]
    assert "nor does its nanny" in wrong["paused"]["detail"]
    assert "docker unpause" in wrong["paused"]["remedy"]
    assert wrong["unreachable"]["detail"].endswith(f"at {CLOSED_PORT}: Connection refused")
    assert "firewall" in wrong["unreachable"]["remedy"]


def test_busy_worker_is_not_a_sick_one(sick: Sick):
    (finding,) = (finding for finding in sick.content["findings"] if finding["where"] == "busy")
    assert finding["ok"]
    assert f"process {sick.pids['busy']} is busy" in finding["detail"]


def test_the_others_are_examined(sick: Sick):
    checked = {finding["check"]: finding for finding in sick.content["findings"]}
    assert checked["arithmetic"]["detail"].endswith("agree on 1 worker")
    assert checked["connections"]["detail"] == "only one worker to ask"
    assert checked["clocks"]["ok"]


def test_no_workers():
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        findings = list(examine(client))
    assert [(finding.check, finding.ok) for finding in findings] == [("workers", False), ("versions", True)]
    assert "dask worker" in findings[0].remedy


def test_scheduler_that_is_gone():
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as cluster,
        Client(cluster.scheduler_address, timeout="5 s") as client,
    ):
        cluster.close()
        findings = list(examine(client))
    assert [(finding.check, finding.ok, finding.where) for finding in findings] == [("workers", False, "scheduler")]
    assert not findings[0].looked
