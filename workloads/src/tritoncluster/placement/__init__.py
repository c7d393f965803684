"""Speeds of machines in Dask's own placement of tasks: delayed calls, futures, arrays, data frames.

Dask takes a small computer's thread for a desktop's. The process of the scheduler wants this as a preload module. It
learns how fast workers are from the tasks that they finish, and places each task where it ends first; on workers that
are equally fast, it changes nothing. The setting `tritoncluster.placement` of Dask's configuration turns it off.
"""

import logging
from time import monotonic
from typing import Any

import dask.config
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from tritoncluster.errors import InputError
from tritoncluster.placement.replaced import install
from tritoncluster.placement.replaced.scheduler import SpeedAwareScheduler, in_threads
from tritoncluster.placement.replaced.shape import Shape
from tritoncluster.placement.speeds import Speeds
from tritoncluster.placement.table import EXPIRES, Table

logger = logging.getLogger(__name__)

#: The setting, in Dask's configuration.
SETTING = "tritoncluster.placement"
#: Milliseconds between two looks at what time alone changes, and seconds between two looks at the table.
LOOK, TABLE = 100, 1.0


def dask_setup(scheduler: Scheduler) -> None:
    """Let a scheduler know of speeds.

    Raises
    ------
    InputError
        When the setting is neither true nor false.
    """
    if not wanted():
        return
    if Shape.here() != Shape.TRIED:
        logger.warning("Placement does not know of speeds: it was not tried with this version of distributed")
        return
    placement = Placement(install(scheduler, Speeds()))
    scheduler.add_plugin(placement)
    callback = PeriodicCallback(placement.look, LOOK)
    scheduler.periodic_callbacks[placement.name] = callback
    callback.start()


def wanted() -> bool:
    """Tell whether the setting is on; it is where nothing is set."""
    value = dask.config.get(SETTING, True)
    if not isinstance(value, bool):
        raise InputError(f"{SETTING} is {value!r}; write true or false")
    return value


class Placement(SchedulerPlugin):
    """What tells a scheduler of workers' speeds: from the tasks that end, and from the table.

    Parameters
    ----------
    scheduler
        Which.
    """

    name = "tritoncluster-placement"

    def __init__(self, scheduler: SpeedAwareScheduler) -> None:
        self._scheduler = scheduler
        self._table = Table(scheduler.task_metadata)
        self._looked = 0.0
        #: Name -> since when no worker has it.
        self._gone: dict[str, float] = {}

    def transition(self, key: Any, start: str, finish: str, *_args: Any, **kwargs: Any) -> None:
        """Learn from a task that has ended."""
        scheduler = self._scheduler
        if "processing" not in (start, finish):
            if finish == "forgotten":
                scheduler.forget_task(key)
            return
        ts = scheduler.tasks.get(key)
        if finish == "processing" and ts and ts.processing_on:
            scheduler.note_start(ts.processing_on)
        if start != "processing" or ts is None:
            return
        seceded = ts in scheduler.seceded
        scheduler.seceded.discard(ts)
        ws = scheduler.workers.get(kwargs.get("worker") or "")
        if ws is None:
            return
        scheduler.note_end(ws)
        # A task that is bound to a worker may be as long as suits that worker: chunks of a balanced run are.
        if finish == "memory" and not seceded and not ts.worker_restrictions:
            spans = kwargs.get("startstops") or ()
            seconds = sum(span["stop"] - span["start"] for span in spans if span["action"] == "compute")
            used = min(1.0, (in_threads(ws) + 1) / ws.nthreads)
            # Threads of one machine slow each other down, and speed is that of a machine with work.
            scheduler.speeds.learn(str(ws.name), ts.prefix.name, seconds, certainty=used**2)
            scheduler.weigh_now_and_then()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_kwargs: Any) -> None:  # noqa: ARG002
        """Let go of a worker; its speed is kept for a while, by its name."""
        self._scheduler.forget_worker(worker)

    def look(self) -> None:
        """Look at the table now and then, and at what time alone changes."""
        if monotonic() - self._looked > TABLE:
            self._looked = monotonic()
            self._exchange()
        self._scheduler.look_again()

    def _exchange(self) -> None:
        speeds = self._scheduler.speeds
        for work, found in self._table.new():
            for name, speed in found.items():
                # What takes as long as a balanced run says, on a worker that was busy all of the time.
                speeds.learn_speed(name, work, speed)
        now, here = monotonic(), {str(ws.name) for ws in self._scheduler.workers.values()}
        self._gone = {name: self._gone.get(name, now) for name in speeds.known() if name not in here}
        for name, when in self._gone.items():
            if now - when > EXPIRES:
                speeds.forget(name)
        self._table.leave(speeds.known())
