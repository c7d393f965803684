"""Starts jobs in their order, some at a time, watches them, and says in the store how they ended.

A job that runs when the service ends, in whatever way, ends with it, and is resumed by the next one.
"""

import logging
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

from tritoncluster.errors import FULL
from tritoncluster.quantities import memory as bytes_in_words
from tritoncluster.quantities import seconds as in_words
from tritoncluster.service import folders, processes
from tritoncluster.service.folders import Folders
from tritoncluster.service.model import Job, State
from tritoncluster.service.programs import command, environment, last_line, reason
from tritoncluster.service.run import Run
from tritoncluster.service.settings import Settings
from tritoncluster.service.store import Store
from tritoncluster.service.upload import FILES

logger = logging.getLogger(__name__)

#: Seconds from one look at what runs to the next.
TICK = 0.25
#: Seconds between looks at memory and logs, and at what is kept.
LOOK, TIDY = 1.0, 60.0
#: Seconds between notes of how long a job ran, which are writes to a card.
NOTE = 10.0
#: Seconds that an interrupted job has to write what it has; then it is killed.
GRACE = 20.0
BAD_INPUT, LATER, INTERRUPTED = 2, 75, 130
#: Seconds after which the cluster is tried again, when it was not there, or a start for which there was no room.
AGAIN = 15.0
NOT_STARTED = "it could not be started"


class Starter:
    """Runs the jobs of a store; `tick` has to be called now and then, from the main thread.

    Parameters
    ----------
    store, folders, settings
        The service's.
    """

    def __init__(self, store: Store, folders: Folders, settings: Settings) -> None:
        self._store, self._folders, self._settings = store, folders, settings
        # The folder's own name for its service, so that the next one finds what this one leaves, and no other's.
        name = folders.base / "name"
        if not name.exists():
            # Whoever is killed between these leaves no name that is empty: all processes would have it.
            new = folders.base / "name-new"
            new.write_text(uuid4().hex)
            new.replace(name)
        self._name = name.read_text()
        self._runs: dict[str, Run] = {}
        self._looked = self._tidied = float("-inf")
        #: Whether the last change could not be written.
        self._stuck = False
        #: Jobs that found no cluster, or no room on the disk -> when they are started again.
        self._later: dict[str, float] = {}
        #: Of jobs that have ended, whose folders stay as they are.
        self._sizes: dict[str, int] = {}

    def resume(self) -> None:
        """Take over what ran when the service ended, to go on with it; once, before the first `tick`."""
        self.end()
        self._folders.sweep(job.id for job in self._store.all())
        for job in self._store.in_state(State.RUNNING):
            folders.log_line(self._folders.of(job.id), "goes on, after the service was started anew")

    def tick(self) -> None:
        """Look at what runs, and start what there is room for."""
        now = time.monotonic()
        look, tidy = now - self._looked >= LOOK, now - self._tidied >= TIDY
        self._looked = now if look else self._looked
        self._tidied = now if tidy else self._tidied
        # One that can't be noted, as on a full disk, keeps nobody from looking after the others.
        changes = [partial(self._attend, run, now, look=look) for run in self._runs.values()]
        changes += [partial(self._fill), *([partial(self._tidy)] if tidy else [])]
        self._stuck = sum(map(self._write, changes)) < len(changes)

    def _write(self, change: Callable[[], None]) -> bool:
        """Do what changes the queue; say whether that could be written. A later tick does it again."""
        try:
            change()
        except sqlite3.OperationalError as error:
            if not self._stuck:
                logger.warning("the queue can't be written (%s): trying again", error)
            self._stuck = True
            return False
        return True

    def cancel(self, id: str, who: str) -> bool:  # noqa: A002
        """Cancel a job; say whether it was not over. What it has finished by now, it keeps."""
        run, why = self._runs.get(id), f"cancelled by {who}"
        try:
            if not self._store.cancel(id, who):
                return False
        except sqlite3.OperationalError:
            # It may be what fills the disk: it ends, and that is noted when there is room.
            if run:
                self._stop(run, State.CANCELLED, why)
            raise
        folders.log_line(self._folders.of(id), why)
        if run:
            self._stop(run, State.CANCELLED, why)
        return True

    def remove(self, id: str) -> bool:  # noqa: A002
        """Remove a job that is over, with its folder; say whether it is."""
        job = self._store.get(id)
        if id in self._runs or not job or not job.state.ended:
            return False
        # The folder first: on a full disk, that makes the room to note it.
        folders.remove(self._folders.of(id))
        return self._store.remove(id)

    def waiting(self) -> list[str]:
        """Give the IDs of the jobs that wait, in their order."""
        return [job.id for job in self._store.in_state(State.WAITING)]

    def why(self, job: Job, waiting: list[str]) -> str:
        """Say in one line what a job waits for, or why it is as it is; `waiting` is what `waiting()` gave."""
        match job.state:
            case State.WAITING:
                before = waiting.index(job.id) if job.id in waiting else 0
                running = ", ".join(self._runs) or "none"
                line = f"it waits for room, {self._settings.at_once} at once (now {running}), "
                line += f"after {before}: {', '.join(waiting[:before][:5])}" if before else "and is next"
                if job.id in self._later and job.reason.startswith(NOT_STARTED):
                    return f"it waits for room on the disk, and tries again in a moment: {job.reason}"
                if job.id in self._later:
                    return f"it waits for the cluster, and tries again in a moment: {job.reason}"
                return line + (f"; it is tried again: {job.reason}" if job.reason else "")
            case State.RUNNING:
                progress = folders.progress(self._folders.of(job.id))
                far = f", {progress['done']:,} of {progress['total']:,} {progress['stage']}" if progress else ""
                since = f" since {in_words(max(0.0, time.time() - job.started))}" if job.started else ""
                last = last_line(self._folders.of(job.id) / folders.LOG)
                return f"it runs{since}{far}" + (f"; its log says last: {last}" if last else "")
            case State.FINISHED:
                return "it is finished"
        return f"it {job.state}: {job.reason}" if job.state is State.FAILED else f"it was {job.reason}"

    def end(self) -> None:
        """End all processes of jobs, which stay running in the store: the next service resumes them."""
        deadline = time.monotonic() + GRACE
        while processes.signal_all(self._name, signal.SIGKILL) and time.monotonic() < deadline:
            time.sleep(0.02)
        for run in self._runs.values():
            self._note_ran(run)
            with suppress(subprocess.TimeoutExpired):
                run.leader.wait(1)

    def _fill(self) -> None:
        now = time.monotonic()
        # What an earlier service began, or what there was no room to start.
        for job in self._store.in_state(State.RUNNING):
            if job.id not in self._runs and self._later.get(job.id, 0.0) <= now:
                self._start(job)
        if len(self._runs) >= self._settings.at_once:
            return
        for job in self._store.in_state(State.WAITING):
            if len(self._runs) >= self._settings.at_once:
                return
            # What is left of an earlier attempt has to be gone.
            due = self._later.get(job.id, 0.0) <= now
            if due and job.id not in self._runs and self._store.begin(job.id):
                begun = self._store.get(job.id)
                if not job.reason:  # it is new, or somebody wants to have it run again
                    (self._folders.of(job.id) / folders.RAN).unlink(missing_ok=True)
                folders.log_line(self._folders.of(job.id), "begins" if job.attempts == 0 else "is tried again")
                self._start(begun or job)

    def _start(self, job: Job) -> None:
        self._later.pop(job.id, None)
        folder = self._folders.of(job.id)
        temporary = folder / folders.TEMPORARY
        folders.remove(temporary)
        (folder / folders.PROGRESS).unlink(missing_ok=True)
        if job.request.kind == "scale":
            # What an attempt before this one was about to leave.
            for name in ("result.json", "report.html"):
                (folder / name).unlink(missing_ok=True)
        mark = f"{self._name}/{job.id}"
        try:
            temporary.mkdir()
            leader = processes.start(
                command(job, folder),
                mark=mark,
                folder=folder / FILES,
                log=folder / folders.LOG,
                environment=environment(job, folder),
            )
        except OSError as error:
            why = f"{NOT_STARTED}: {error.strerror}"
            if error.errno in FULL:
                self._later[job.id] = time.monotonic() + AGAIN
                self._store.wait_again(job.id, why, counts=False)
            else:
                self._store.end(job.id, State.FAILED, None, why)
            return
        self._runs[job.id] = Run(job, mark, leader, folders.ran(folder))

    def _attend(self, run: Run, now: float, *, look: bool) -> None:
        status = run.leader.poll()
        if status is not None:
            # What the program left behind.
            found = processes.signal_all(run.mark, signal.SIGKILL)
            if found or not run.gone:
                # Now: until the end can be noted, it may be long.
                self._note_ran(run)
                run.gone = not found
                return
            # The room that it took first: what follows may need it.
            folders.remove(self._folders.of(run.job.id) / folders.TEMPORARY)
            self._note_end(run, status)
            del self._runs[run.job.id]
            return
        if run.deadline is not None and now >= run.deadline:
            processes.signal_all(run.mark, signal.SIGKILL)
            return
        if run.verdict or not look:
            return
        limit, max_time = self._settings.memory, run.job.request.max_time
        if now - run.noted >= NOTE:
            self._note_ran(run)
        if max_time is not None and run.ran > max_time:
            self._stop(run, State.FAILED, f"it ran for longer than {in_words(max_time)}, its --max-time")
        elif (used := processes.memory(run.mark)) > limit:
            why = f"it took {bytes_in_words(used)} of memory, and {bytes_in_words(limit)} is what a job may take"
            self._stop(run, State.FAILED, why, at_once=True)
        folders.limit_log(self._folders.of(run.job.id), self._settings.max_log)

    def _note_ran(self, run: Run) -> None:
        """Note for how long a job has run, where that is limited, for the service that goes on with it."""
        if run.job.request.max_time is not None:
            run.noted = time.monotonic()
            folders.note_ran(self._folders.of(run.job.id), run.ran)

    def _stop(self, run: Run, state: State, why: str, *, at_once: bool = False) -> None:
        run.verdict = run.verdict or (state, why)
        folders.log_line(self._folders.of(run.job.id), f"stopped: {why}")
        if at_once:
            processes.signal_all(run.mark, signal.SIGKILL)
            run.deadline = time.monotonic()
        elif run.deadline is None:
            # The program passes it on; all of them would get it twice.
            with suppress(ProcessLookupError):
                run.leader.send_signal(signal.SIGINT)
            run.deadline = time.monotonic() + GRACE

    def _note_end(self, run: Run, status: int) -> None:
        job, folder = run.job, self._folders.of(run.job.id)
        known = status if status >= 0 else 128 - status
        why = run.why = run.why or reason(folder / folders.LOG, known)
        if run.verdict:
            state, why = run.verdict
            self._store.end(job.id, state, known, why)
        elif status == 0:
            self._store.end(job.id, State.FINISHED, 0)
            folders.log_line(folder, "finished")
        elif known == LATER:
            self._store.wait_again(job.id, why, counts=False)
            self._later[job.id] = time.monotonic() + AGAIN
            folders.log_line(folder, f"waits for the cluster: {why}")
        else:
            if job.attempts <= job.request.retries and known not in (BAD_INPUT, INTERRUPTED):
                self._store.wait_again(job.id, why)
            else:
                self._store.end(job.id, State.FAILED, known, why)
            folders.log_line(folder, f"failed: {why}")

    def _tidy(self) -> None:
        self._store.set_unknown_ends()
        now, used, sizes = self._store.clock.earliest(), 0, self._sizes
        self._sizes = {}
        for job in self._store.all():
            if not job.state.ended or job.id in self._runs:
                continue
            size = self._sizes[job.id] = sizes.get(job.id) or self._folders.size(job.id)
            used += size
            old = job.ended is not None and now - job.ended > self._settings.keep_time
            if old or used > self._settings.keep_size:
                logger.info("removing job %s: jobs that have ended are kept for a time, and up to a size", job.id)
                self.remove(job.id)
