"""What travels: a piece's calls to a worker, its answer back, and large arguments, once to each worker."""

import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias
from uuid import uuid4

import cloudpickle
import dask.config
from dask.sizeof import sizeof
from distributed import Client, Future, get_worker
from distributed.worker_state_machine import TaskState
from joblib import parallel_config

#: A function and its arguments, as joblib's `delayed` gives them.
Call: TypeAlias = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]
#: Smaller arguments travel with the piece: a reference to data on a worker costs about as much.
SHARED_BYTES = 10_000
#: What the names of shared arguments begin with. Dask's page of task groups fails while a group's name sorts before the
#: name of one that needs it, and those are named after functions.
ARGUMENT = "~argument"


class Sharing:
    """Large arguments that the cluster has been given; a context manager that lets go of them at the end.

    The same object in a later piece becomes the same reference: each worker gets it once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        # By id, for which the argument is held too, so that its id is not given to another object.
        self._shared: dict[int, tuple[Any, Future[Any] | None]] = {}
        self._name = uuid4().hex[:8]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def share(self, argument: Any, address: str) -> "Future[Any]":
        """Give the reference to `argument`, which is made for the first worker that needs it, at `address`.

        Workers get their first pieces in the order of their speed: others wait for the argument while a slow one
        takes it in and hands it on.
        """
        with self._lock:
            _, future = self._shared.get(id(argument), (argument, None))
            if future is None:
                # A task, where Dask would advise scatter(): scattered data is gone for good with the last worker that
                # has it, while a task is computed again. Hence also no warning that the task is large.
                with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
                    future = self._client.submit(
                        _value,
                        argument,
                        key=f"{ARGUMENT}-{self._name}-{uuid4().hex[:8]}",
                        workers=[address],
                        allow_other_workers=True,
                    )
                self._shared[id(argument)] = argument, future
            return future

    def wants(self, argument: Any) -> bool:
        """Tell whether `argument` should travel once to each worker rather than with each piece."""
        return id(argument) in self._shared or sizeof(argument) > SHARED_BYTES

    def share_if_large(self, argument: Any) -> bool:
        """Share an argument of many calls if it is large, which Dask's estimate of sizes knows of few types."""
        large = self.wants(argument) or len(cloudpickle.dumps(argument)) > SHARED_BYTES
        if large:
            with self._lock:
                self._shared.setdefault(id(argument), (argument, None))
        return large

    def release(self) -> None:
        """Let go of all."""
        with self._lock:
            self._shared.clear()


@dataclass(frozen=True)
class _Reference:
    """Stands in a pickled call for an argument that the cluster has: the one of this number."""

    number: int


@dataclass(frozen=True)
class Answer:
    """What a piece gives: for each item the results of its calls, what `afterwards` made of them, and its seconds."""

    results: list[list[Any]]
    extras: list[Any]
    seconds: list[float]


def pack(
    items: Sequence[Sequence[Call]], afterwards: Call | None, sharing: Sharing, address: str
) -> tuple[bytes, list["Future[Any]"]]:
    """Pickle the calls of a piece's items for a worker, large arguments replaced by references; give these too.

    Pickled here, because Dask would take apart each call, and that would take as long as growing a tree.
    """
    shared: dict[int, Future[Any]] = {}

    def by_reference(argument: Any) -> Any:
        if not sharing.wants(argument):
            return argument
        shared.setdefault(id(argument), sharing.share(argument, address))
        return _Reference(list(shared).index(id(argument)))

    def packed(call: Call) -> Call:
        function, args, kwargs = call
        return function, [by_reference(each) for each in args], {name: by_reference(kwargs[name]) for name in kwargs}

    content = [[packed(call) for call in calls] for calls in items], afterwards and packed(afterwards)
    return cloudpickle.dumps(content), list(shared.values())


def run_piece(pickled: bytes, key: str, *shared: Any) -> bytes | None:
    """Make the calls of a piece; runs on a worker.

    Parameters
    ----------
    pickled
        As `pack` gave it.
    key
        The task's name, by which it knows whether all of it is still wanted.
    shared
        What references stand for.

    Returns
    -------
    bytes or None
        An `Answer`, pickled: Dask would send each array in it by itself, some hundreds for a piece of a forest. None
        when nobody wants it any more.
    """

    def make(call: Call, *first: Any) -> Any:
        function, args, kwargs = call
        return function(*first, *map(real, args), **{name: real(kwargs[name]) for name in kwargs})

    def real(argument: Any) -> Any:
        return shared[argument.number] if isinstance(argument, _Reference) else argument

    items, afterwards = pickle.loads(pickled)  # noqa: S301 - from our own client, as the task itself
    answer = Answer([], [], [])
    tasks = get_worker().state.tasks
    stops: list[str] = []
    # A task has one thread of its worker, and nested parallel calls stay in it.
    with parallel_config(backend="sequential"):
        for place, calls in enumerate(items):
            if _cancelled(key, tasks):
                return None
            stops.append(stop_key(key, place))
            if any(stop in tasks for stop in stops):
                break
            begin = time.perf_counter()
            answer.results.append([make(call) for call in calls])
            answer.extras.append(afterwards and make(afterwards, answer.results[-1]))
            answer.seconds.append(time.perf_counter() - begin)
    return cloudpickle.dumps(answer)


def stop_key(key: str, place: int) -> str:
    """Name the task whose presence on a worker tells the piece `key` there to stop before its item at `place`."""
    # Reports call a task what is before the last two hyphens of its key.
    return f"stop-{key.replace('-', '.')}-{place}"


def _cancelled(key: str, tasks: Mapping[Any, TaskState]) -> bool:
    """Tell whether this task has been released while it runs, which Dask can't stop: a worker then looks after it."""
    task = tasks.get(key)
    return task is None or task.state == "cancelled"


def _value(argument: Any) -> Any:
    return argument


def name_of(function: Any) -> str:
    """Name a function for people, as in the names of tasks."""
    # scikit-learn wraps what it delays.
    function = getattr(function, "function", function)
    function = getattr(function, "func", function)  # functools.partial
    return str(getattr(function, "__name__", "call")).strip("_<>") or "call"
