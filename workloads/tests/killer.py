"""Kills processes of a cluster with a jobs service in an order that a seed gives, and looks at what becomes of jobs."""

import json
import logging
import math
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.config
import psutil
from command import COMMAND
from jobs_service import Service, wait_for
from remote import Remote

from tritoncluster.service.client import Jobs, NoAnswerError
from tritoncluster.service.model import Request
from tritoncluster.service.upload import pack

logger = logging.getLogger(__name__)

#: In the environment of all processes that are started, and that have to be gone in the end.
OURS = "TRITONCLUSTER_KILLER"
#: Calls that leave a folder each, as files that they open would keep them out of the journal.
SCRIPT = """
import math, os, pathlib, sys, time
from distributed import Client
from tritoncluster.balance import balanced_map

record, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def call(number):
    from distributed.worker import thread_state
    run = thread_state.key.rsplit("-", 2)[1]
    os.mkdir(f"{record}/{name}_{number}_{run}_{time.time_ns()}")
    time.sleep(0.05)
    return [number, math.sin(number) / 3]

values = [value for _, value in balanced_map(call, range(count), Client())]
pathlib.Path("values.txt").write_text(" ".join(map(float.hex, values)))
"""
#: Calls of a script.
COUNT = 150
EXPECTED = " ".join((math.sin(number) / 3).hex() for number in range(COUNT))
OPTION = ("asian-option", "--paths=60000")
#: Who is killed -> how often in forty times.
VICTIMS = {"worker": 8, "job": 8, "service": 6, "jobs.sqlite": 6, "journal.sqlite": 6, "client": 4, "scheduler": 2}
#: Jobs that are to be there while somebody is killed.
LIVE = 2
#: Seconds for something to happen on a machine that has much else to do.
PATIENCE = 300


def victims(stream: random.Random, kills: int) -> list[str]:
    """Draw who is killed, each as often as it is in `VICTIMS`."""
    deck: list[str] = []
    while len(deck) < kills:
        deck += stream.sample(list(VICTIMS), k=sum(VICTIMS.values()), counts=list(VICTIMS.values()))
    return deck[:kills]


class Killer:
    """Has jobs run on a cluster, and kills its processes.

    Parameters
    ----------
    cluster, service
        What it kills.
    folder
        For what calls leave, and traps.
    stream
        Of random numbers.
    """

    def __init__(self, cluster: Remote, service: Service, folder: Path, stream: random.Random) -> None:
        self.cluster, self.service, self.stream = cluster, service, stream
        self.traps, self.record = folder / "traps", folder / "record"
        self.script = folder / "script.py"
        self.script.write_text(SCRIPT)
        for each in (self.traps, self.record):
            each.mkdir()
        #: Jobs that somebody was told of.
        self.accepted: set[str] = set()
        self.ended: dict[str, dict[str, Any]] = {}
        #: When which calls of a job were seen in its journal.
        self.committed: dict[str, list[tuple[int, set[int]]]] = defaultdict(list)
        bundle = service.folder / "tls/anna"
        with dask.config.set(
            {
                "tritoncluster.gateway": service.gateway.address,
                "distributed.comm.tls.client": {"cert": str(bundle / "tls.crt"), "key": str(bundle / "tls.key")},
            }
        ):
            self.jobs = Jobs()

    # Jobs.

    def request(self) -> Request:
        """Make a job: one in four is an option, the others are scripts."""
        if self.stream.random() < 0.25:
            return Request("run", OPTION, "option", self.stream.randrange(3), None, 100)
        words = ("--", "script.py", str(self.record), uuid4().hex, str(COUNT))
        return Request("submit", words, "script", self.stream.randrange(3), None, 100)

    def submit(self) -> None:
        """Have a job accepted, also by a service that is started anew meanwhile."""
        request, key = self.request(), str(uuid4())
        files = {"script.py": SCRIPT.encode()} if request.kind == "submit" else {}
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.accepted.add(self.jobs.submit(key, pack(request, files), tell=logger.warning)["id"])
            except NoAnswerError:
                assert time.monotonic() < deadline, self.service.log
                time.sleep(0.1)
            else:
                return

    def look(self) -> list[dict[str, Any]]:
        """List the jobs that are not over; what was over before is as it was."""
        answer = self.jobs.insist("GET", tell=logger.warning).json()
        found = {each["id"]: each for each in answer["jobs"]}
        assert self.accepted <= set(found)
        for name, before in self.ended.items():
            assert (found[name]["state"], found[name]["ended"]) == (before["state"], before["ended"])
        over = {"finished", "failed", "cancelled"}
        self.ended |= {name: each for name, each in found.items() if each["state"] in over}
        return [each for name, each in found.items() if name not in self.ended]

    def feed(self) -> None:
        """Have enough jobs."""
        for _ in range(LIVE - len(self.look())):
            self.submit()

    # Kills.

    def kill(self, victim: str) -> None:
        """Kill one process, in the middle of its work; what has to be started again by hand is."""
        self.feed()
        wait_for(self.service.processes, PATIENCE)
        if victim not in ("jobs.sqlite", "journal.sqlite", "client"):
            time.sleep(self.stream.uniform(0, 1.5))
        match victim:
            case "worker":
                wait_for(self.workers, PATIENCE)
                self.stream.choice(self.workers()).kill()
            case "job":
                self.kill_job()
            case "scheduler":
                self.cluster.kill_scheduler()
                self.cluster.start_scheduler()
            case "service":
                self.service.kill()
                self.service_is_gone()
            case "jobs.sqlite":
                self.kill_in_commit_of_service()
            case "journal.sqlite":
                self.trap(victim)
                wait_for(lambda: self.feed() or not (self.traps / victim).exists(), PATIENCE)
            case "client":
                self.kill_client()
        self.note_committed()

    def workers(self) -> list[subprocess.Popen[bytes]]:
        """List the workers that run."""
        return [each for each in list(self.cluster.workers) if each.poll() is None]

    def kill_job(self) -> None:
        """Kill one of the processes of jobs."""
        while True:
            wait_for(lambda: self.feed() or self.service.processes(), PATIENCE)
            if found := self.service.processes():
                with suppress(psutil.NoSuchProcess):
                    self.stream.choice(found).kill()
                    return

    def trap(self, database: str) -> None:
        """Let the next commit to a database be its process's last deed."""
        new = self.traps / "new"
        new.write_text(self.stream.choice(["before", "after", "torn"]))
        new.rename(self.traps / database)

    def kill_in_commit_of_service(self) -> None:
        """Let the service accept, begin or end a job, and end in that."""
        self.trap("jobs.sqlite")
        with ThreadPoolExecutor(1) as thread:
            submitted = thread.submit(self.submit)
            wait_for(lambda: self.service.process.poll() is not None, PATIENCE)
            assert not (self.traps / "jobs.sqlite").exists(), self.service.log
            self.service_is_gone()
            submitted.result()

    def service_is_gone(self) -> None:
        """See that its jobs end with it, and start the next one."""
        wait_for(lambda: not self.service.processes(), PATIENCE)
        self.note_committed()
        self.service.start()

    def kill_client(self) -> None:
        """Kill a command that leaves a job to the service: it is accepted, or it is not."""
        words = ["submit", "--detach", "--retries", "100", str(self.script), str(self.record), uuid4().hex, str(COUNT)]
        with subprocess.Popen(
            [*COMMAND, *words],
            env=os.environ | self.service.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as client:
            with suppress(subprocess.TimeoutExpired):
                client.wait(self.stream.uniform(0, 4))
            client.kill()
            self.accepted |= set(client.stdout.read().split())

    # What came of it.

    def note_committed(self) -> None:
        """Look at what is in the journals now."""
        for folder in self.service.store.glob("jobs/*"):
            if folder.name not in self.ended and (rows := self.rows(folder)):
                self.committed[folder.name].append((time.time_ns(), {number for _, number in rows}))

    def rows(self, folder: Path) -> list[tuple[bytes, int]]:
        """Give the keys in a job's journal, and the number of each call; of an option's, 0."""
        with tempfile.TemporaryDirectory() as copies:
            for name in ("journal.sqlite-wal", "journal.sqlite"):
                with suppress(FileNotFoundError):
                    shutil.copy(folder / name, copies)
            # Who writes there has it for himself, and may be in the middle of something.
            with suppress(sqlite3.Error), closing(sqlite3.connect(Path(copies) / "journal.sqlite")) as database:
                found = database.execute("SELECT key, blob FROM results").fetchall()
                return [(key, number_of(blob)) for key, blob in found]
        return []

    def finish(self) -> None:
        """Let all jobs come to their end, and check each."""
        # However many wait by now, each has its time.
        while left := self.look():
            wait_for(lambda left=left: len(self.look()) < len(left), PATIENCE)
        options = []
        calls = self.calls()
        for name, job in self.ended.items():
            folder = self.service.store / "jobs" / name
            log = (folder / "log.txt").read_text()
            assert (job["state"], job["exit_status"]) == ("finished", 0), log
            assert log.count(" UTC: finished\n") <= 1, log
            keys = [key for key, _ in self.rows(folder)]
            assert len(keys) == len(set(keys)) > 0, f"pieces of {name} were kept twice: {log}"
            if job["kind"] == "run":
                options.append(json.loads((folder / "result.json").read_text())["result"])
                continue
            assert (folder / "files/values.txt").read_text() == EXPECTED, log
            assert len(keys) == COUNT, log
            self.check_calls(calls[job["words"][-2]], self.committed[name], log)
        # The first one was not disturbed.
        undisturbed = json.loads((self.service.store / "jobs" / self.first / "result.json").read_text())["result"]
        assert all(each == undisturbed for each in options)
        wait_for(lambda: not self.service.processes(), PATIENCE)

    def calls(self) -> dict[str, list[tuple[int, str, int]]]:
        """Give the calls of each script that were made: number, run, when."""
        found: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for each in self.record.iterdir():
            name, number, run, when = each.name.split("_")
            found[name].append((int(number), run, int(when)))
        return found

    @staticmethod
    def check_calls(calls: list[tuple[int, str, int]], committed: list[tuple[int, set[int]]], log: str) -> None:
        """No run that began when a call was in the journal made it again."""
        assert {number for number, _, _ in calls} == set(range(COUNT)), log
        begun: dict[str, int] = {}
        for _, run, when in calls:
            begun[run] = min(when, begun.get(run, when))
        for seen, numbers in committed:
            again = sorted(number for number, run, _ in calls if begun[run] > seen and number in numbers)
            assert again == [], f"{again} were committed, and computed again: {log}"

    def begin(self) -> None:
        """Have an option priced without a break."""
        request = Request("run", OPTION, "option")
        self.first = self.jobs.submit(str(uuid4()), pack(request, {}), tell=logger.warning)["id"]
        wait_for(lambda: not self.look(), PATIENCE)
        assert self.ended[self.first]["state"] == "finished", self.ended


def number_of(blob: bytes) -> int:
    """Give which call of a script a row is of."""
    (part, *_), pickled = pickle.loads(blob)  # noqa: S301 - of this test's own jobs
    value = pickle.loads(part) if pickled else part  # noqa: S301
    return value[0] if isinstance(value, list) else 0


def left(mark: str) -> list[str]:
    """Give the processes that have been started with a mark and are still there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(OURS) == mark:
                found.append(" ".join(process.cmdline()))
    return found
