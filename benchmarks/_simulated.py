"""A scheduler of Dask with workers and a clock that are not here: what it decides, whatever else this machine does.

The scheduler is the real one, with its real work stealing. Workers take the messages that it would send them, do tasks
in the order of their priority, fetch what these need, and answer, all in simulated time.
"""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import dask
from _graphs import Graph, named
from dask._task_spec import Task, TaskRef
from dask.order import order
from dask.utils import key_split
from distributed import Scheduler
from distributed.core import Status
from distributed.scheduler import ClientState, WorkerState
from tornado.ioloop import PeriodicCallback

import tritoncluster.placement.replaced.scheduler as speed_aware
from tritoncluster.placement import Placement
from tritoncluster.placement.replaced import install
from tritoncluster.placement.speeds import Speeds
from tritoncluster.record import Span

#: Seconds that a message takes, and that a worker takes to fetch data.
MESSAGE, FETCH = 0.002, 0.004
#: What a scheduler does besides placing tasks.
QUIET = {"distributed.scheduler.http.routes": [], "distributed.scheduler.active-memory-manager.start": False}
#: Bytes of a result.
NBYTES = 100
PICKLED = b"\x80\x04N."


class SimulatedWorker:
    """What a worker does with the scheduler's messages; `send` is what a comm has."""

    def __init__(self, room: "Room", address: str, speed: float, threads: int) -> None:
        self.room, self.address, self.speed, self.threads = room, address, speed, threads
        #: Key -> message of the task.
        self.waiting: dict[Any, dict[str, Any]] = {}
        self.running: dict[Any, dict[str, Any]] = {}
        self.idle_threads = list(range(threads))
        self.ready: list[tuple[Any, int, Any]] = []
        self.data: set[Any] = set()
        self.count = itertools.count()

    def send(self, *messages: dict[str, Any]) -> None:
        """Get messages a moment later."""
        for message in messages:
            self.room.after(MESSAGE, partial(self.take, message))

    def take(self, message: dict[str, Any]) -> None:
        """Do what a message says."""
        if message["op"] == "compute-task":
            key = message["key"]
            self.waiting[key] = message
            missing = [need for need in message["who_has"] if need not in self.data]
            self.room.after(FETCH if missing else 0.0, lambda: self.fetched(key, missing))
        elif message["op"] == "steal-request":
            key = message["key"]
            held = {"ready": self.waiting, "executing": self.running, "memory": self.data}
            state = next((name for name, keys in held.items() if key in keys), None)
            self.waiting.pop(key, None)
            self.room.after(MESSAGE, lambda: self.room.stolen(self.address, message, state))
        elif message["op"] in ("free-keys", "remove-replicas"):
            self.data.difference_update(message["keys"])
            for key in message["keys"]:
                self.waiting.pop(key, None)

    def fetched(self, key: Any, missing: list[Any]) -> None:
        """Note that all is there that a task needs."""
        if missing:
            self.data.update(missing)
            self.room.scheduler.add_keys(self.address, missing)
        if key in self.waiting:
            heapq.heappush(self.ready, (self.waiting[key]["priority"], next(self.count), key))
            self.start()

    def start(self) -> None:
        """Begin with what is ready, as far as threads are free."""
        while self.ready and len(self.running) < self.threads:
            _, _, key = heapq.heappop(self.ready)
            if message := self.waiting.pop(key, None):
                self.running[key] = message
                seconds = self.room.seconds[key] / self.speed
                begin = self.room.now
                thread = self.idle_threads.pop()
                self.room.trace.append((self.address, thread, key, begin, begin + seconds))
                self.room.after(seconds, partial(self.end, key, begin, thread))

    def end(self, key: Any, begin: float, thread: int) -> None:
        """Answer with a task's result."""
        self.idle_threads.append(thread)
        message = self.running.pop(key)
        self.data.add(key)
        stop = self.room.now
        self.start()
        self.room.after(MESSAGE, lambda: self.room.finished(self.address, message, begin, stop))


class Room:
    """A scheduler with workers of given speeds and threads."""

    def __init__(self, scheduler: Scheduler, workers: list[tuple[float, int]], stealing: float) -> None:
        self.scheduler, self.stealing = scheduler, stealing
        self.now = 1000.0
        self.events: list[tuple[float, int, Callable[[], object]]] = []
        self.count = itertools.count()
        self.seconds: dict[Any, float] = {}
        #: Worker's address, thread, key, start and end of all tasks of a graph.
        self.trace: list[tuple[str, int, Any, float, float]] = []
        #: Seconds of real time in the scheduler, and answers.
        self.deciding, self.answers = 0.0, 0
        scheduler.clients["simulation"] = ClientState("simulation")
        self.workers = {}
        for place, (speed, threads) in enumerate(workers):
            address = f"tcp://127.0.0.1:{10000 + place}"
            self.workers[address] = scheduler.stream_comms[address] = SimulatedWorker(self, address, speed, threads)
            state = WorkerState(
                address=address,
                status=Status.running,
                pid=0,
                name=f"worker-{place}",
                nthreads=threads,
                memory_limit=2**30,
                local_directory="",
                nanny=None,
                server_id=address,
                scheduler=scheduler,
            )
            scheduler.workers[address] = state
            scheduler.aliases[state.name] = address
            scheduler.running.add(state)
            scheduler.total_nthreads += threads
            for plugin in scheduler.plugins.values():
                plugin.add_worker(scheduler=scheduler, worker=address)
            scheduler.check_idle_saturated(state)

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Let something happen later."""
        heapq.heappush(self.events, (self.now + seconds, next(self.count), what))

    def finished(self, address: str, message: dict[str, Any], begin: float, stop: float) -> None:
        """Tell the scheduler of a result."""
        before = time.process_time()
        self.scheduler.handle_task_finished(
            key=message["key"],
            worker=address,
            stimulus_id=f"finished-{next(self.count)}",
            run_id=message["run_id"],
            metadata={},
            nbytes=NBYTES,
            type=PICKLED,
            typename="NoneType",
            thread=1,
            startstops=[{"action": "compute", "start": begin, "stop": stop}],
        )
        self.deciding += time.process_time() - before
        self.answers += 1

    def stolen(self, address: str, message: dict[str, Any], state: str | None) -> None:
        """Tell the scheduler whether a task could be stolen."""
        self.scheduler.extensions["stealing"].move_task_confirm(
            key=message["key"], state=state, stimulus_id=message["stimulus_id"], worker=address
        )

    def compute(self, graph: Graph, token: str) -> tuple[float, list[Span]]:
        """Give the simulated seconds of a graph, and what workers did."""
        names = {key: named(key, token) for key in graph.tasks}
        self.seconds = {names[key]: seconds for key, (seconds, _) in graph.tasks.items()}
        tasks = {
            names[key]: Task(names[key], _nothing, *(TaskRef(names[need]) for need in needs))
            for key, (_, needs) in graph.tasks.items()
        }
        begin, s = self.now, self.scheduler
        self.trace.clear()
        wanted = {names[key] for key in graph.wanted}
        batches = [tasks] if graph.way != "submit" else [{key: task} for key, task in tasks.items()]
        for batch in batches:
            before = time.process_time()
            s._create_taskstate_from_graph(  # noqa: SLF001
                start=0.0,
                dsk=batch,
                keys=wanted & batch.keys(),
                ordered=order(batch),
                client="simulation",
                annotations_by_type={},
                global_annotations=None,
                stimulus_id=f"graph-{next(self.count)}",
                submitting_task=None,
                span_metadata={"collections": []},
            )
            self.deciding += time.process_time() - before
        self._every(self.stealing, s.extensions["stealing"].balance)
        if isinstance(s, speed_aware.SpeedAwareScheduler):
            self._every(0.1, s.look_again)
        left = list(wanted)
        while left:
            if left[-1] in s.tasks and s.tasks[left[-1]].state == "memory":
                left.pop()
                continue
            end = self.now + 0.02
            while self.events and self.events[0][0] <= end:
                self.now, _, what = heapq.heappop(self.events)
                what()
            self.now = max(self.now, end) if self.events else self.now
            if self.now > begin + 3600:
                raise RuntimeError("nothing goes on")
        self.events.clear()
        s.client_releases_keys(list(wanted), "simulation")
        self.now += 1
        spans = [
            Span(str(s.workers[address].name), thread, key_split(key), "compute", start - begin, stop - begin)
            for address, thread, key, start, stop in self.trace
        ]
        return max(span.stop for span in spans), spans

    def _every(self, seconds: float, what: Callable[[], object]) -> None:
        def again() -> None:
            before = time.process_time()
            what()
            self.deciding += time.process_time() - before
            self.after(seconds, again)

        self.after(seconds, again)


def _nothing(*_needs: object) -> None:
    """Be a task that is never computed."""


class Done(NamedTuple):
    """What came of graphs: for each its seconds and what workers did; and what a task cost the scheduler, in µs."""

    runs: list[tuple[float, list[Span]]]
    microseconds: float


def simulate(workers: list[tuple[float, int]], graphs: list[Graph], *, placed: bool, config: dict[str, object]) -> Done:
    """Compute graphs, one after the other on the same scheduler."""

    async def run() -> Done:
        with dask.config.set(QUIET | config):
            scheduler = Scheduler(dashboard_address=":0")
            interval = scheduler.extensions["stealing"]._callback_time  # noqa: SLF001
            # As where it runs; here the room does what it would.
            scheduler.periodic_callbacks["stealing"] = PeriodicCallback(lambda: None, interval * 1000)
            if placed:
                scheduler.add_plugin(Placement(install(scheduler, Speeds())))
            room = Room(scheduler, workers, interval)
            speed_aware.monotonic = lambda: room.now
            runs = [room.compute(graph, str(place)) for place, graph in enumerate(graphs)]
            return Done(runs, room.deciding / room.answers * 1e6)

    logging.getLogger("distributed").setLevel(logging.WARNING)
    return asyncio.run(run())
