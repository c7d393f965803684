"""A chunk's calls on a worker, and its answer; what travels there and back is bytes, which this module makes and reads.

Each call gets objects of its own, made of what it was sent, and each result is pickled by itself: calls of a chunk have
no more to do with each other than those of two chunks.
"""

import io
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import cloudpickle
import numpy as np
from joblib import parallel_config

from tritoncluster.balance.arguments import Parcel, Pickled
from tritoncluster.balance.contents import Content
from tritoncluster.balance.failures import dump_error, load_error
from tritoncluster.balance.functions import is_atom
from tritoncluster.balance.internals import released
from tritoncluster.balance.opened import noted
from tritoncluster.balance.yielding import Yielding

#: A worker answers before a chunk is done when its results have more bytes: whoever takes them may be slower.
ANSWER_BYTES = 32 << 20
#: Orders to stop that a worker remembers: they may come before the chunk, or after it.
ORDERS = 1000
#: Alignment in bytes of an array's memory that compiled code may rely on.
ALIGNMENT = 16

#: Chunk -> the place before which it should stop. Written by the worker's event loop, read by its tasks.
_stops: OrderedDict[str, int] = OrderedDict()
_thread = threading.local()

#: Part of a pickle as it travels: itself, or the number of a shared content.
_Part: TypeAlias = bytes | int
#: A `Pickled` as it travels: parts of the pickle; parts of memory, and whether each is copied; whether it is reusable.
_Objects: TypeAlias = tuple[tuple[_Part, ...], tuple[tuple[_Part, bool], ...], bool]


@dataclass(frozen=True)
class Failure:
    """Why calls ended early."""

    pickled: bytes
    words: str

    @property
    def error(self) -> BaseException:
        """The exception that a call raised."""
        return load_error(self.pickled, self.words)


@dataclass(frozen=True)
class Answered:
    """An item's results, and what `afterwards` made of them: pickled, each by itself, or what is as good as that.

    `opened` says in words what its calls opened while they ran, "" for nothing.
    """

    parts: tuple[Any, ...]
    pickled: bool
    opened: str = ""

    @cached_property
    def values(self) -> list[Any]:
        """The results of its calls, then what was made of them."""
        return list(map(pickle.loads, self.parts)) if self.pickled else list(self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return sum(map(len, self.parts)) if self.pickled else 0


@dataclass(frozen=True)
class Answer:
    """What a chunk gives: for each of its first items the results, and its seconds; why there are no more, if so.

    And what others have used on its worker since the run came there, in seconds of a thread, with what they say of
    themselves.
    """

    results: list[Answered] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: Failure | None = None
    beside: list[tuple[dict[str, Any], float]] = field(default_factory=list)


def pack_chunk(items: Sequence[Sequence[Parcel]], afterwards: Parcel | None, shared: Sequence[Content]) -> bytes:
    """Make bytes of the calls of a chunk's items; contents in `shared` travel by themselves."""
    numbers = {id(content): number for number, content in enumerate(shared)}
    functions: dict[int, int] = {}
    objects: list[_Objects] = []

    def part(content: Content | bytes) -> _Part:
        if isinstance(content, bytes):
            return content
        number = numbers.get(id(content))
        return content.data if number is None else number

    def travelling(pickled: Pickled) -> _Objects:
        memory = tuple((part(each.content), each.copied) for each in pickled.memory)
        return tuple(map(part, pickled.segments)), memory, pickled.reusable

    def function(pickled: Pickled | None) -> int | None:
        if pickled is None:
            return None
        if id(pickled) not in functions:
            functions[id(pickled)] = len(objects)
            objects.append(travelling(pickled))
        return functions[id(pickled)]

    def call(parcel: Parcel) -> Any:
        rest = (parcel.places, travelling(parcel.pickled)) if parcel.places else None
        return function(parcel.function), parcel.arguments, parcel.keywords, rest

    content = [list(map(call, calls)) for calls in items], afterwards and call(afterwards), objects
    return pickle.dumps(content, protocol=5)


def run_chunk(pickled: bytes, key: str, *shared: bytes) -> bytes | None:
    """Make the calls of a chunk; runs on a worker.

    Parameters
    ----------
    pickled
        As `pack_chunk` gave it.
    key
        The task's name, by which it knows whether all of it is still wanted.
    shared
        The contents that travelled by themselves.

    Returns
    -------
    bytes or None
        An `Answer`, pickled: Dask would send each array in it by itself, some hundreds for a chunk of a forest. None
        when nobody wants it any more.
    """
    items, afterwards, functions = pickle.loads(pickled)  # noqa: S301 - from our own client, as the task itself
    calls = _Calls(functions, shared)
    answer = Answer()
    nbytes = 0
    failure = None
    beside: list[tuple[dict[str, Any], float]] = []
    _thread.calling = True
    try:
        # A task has one thread of its worker, and nested parallel calls stay in it.
        with parallel_config(backend="sequential"), Yielding(key, released(key)) as turn:
            for place, item in enumerate(items):
                if not turn.go_on():
                    return None
                if place >= _stops.get(key, len(items)) or nbytes > ANSWER_BYTES:
                    break
                begin = time.perf_counter()
                try:
                    with noted() as opened:
                        results = [calls.make(call) for call in item]
                        if afterwards:
                            results.append(calls.make(afterwards, results[:]))
                    answered = _answered(results, "".join(opened))
                except BaseException as error:  # noqa: BLE001 - whatever a call raises, its caller gets, and no worker
                    failure = Failure(*dump_error(error))
                    break
                answer.results.append(answered)
                answer.seconds.append(time.perf_counter() - begin)
                nbytes += answered.nbytes
            beside = turn.beside()
    finally:
        _thread.calling = False
        _stops.pop(key, None)
    return pickle.dumps(Answer(answer.results, answer.seconds, failure, beside), protocol=5)


def load_answer(pickled: bytes) -> "Answer":
    """Make an answer of what `run_chunk` gave; its results are still pickled."""
    answer: Answer = pickle.loads(pickled)  # noqa: S301 - from our own worker, as any result
    return answer


def stop_before(key: str, place: int) -> None:
    """Tell the chunk `key` on this worker, there or on its way, to stop before its item at `place`."""
    _stops[key] = min(place, _stops.get(key, place))
    while len(_stops) > ORDERS:
        _stops.popitem(last=False)


def in_call() -> bool:
    """Tell whether this thread makes a call of a chunk."""
    return getattr(_thread, "calling", False)


class _Calls:
    """Makes calls from what they were sent."""

    def __init__(self, functions: Sequence[_Objects], shared: Sequence[bytes]) -> None:
        self._functions, self._shared = functions, shared
        self._reusable: dict[int, Callable[..., Any]] = {}

    def make(self, call: Any, *first: Any) -> Any:
        """Make a call, with more arguments before its own."""
        number, arguments, keywords, rest = call
        function: Any = None if number is None else self._function(number)
        if rest:
            places, pickled = rest
            arguments, keywords = list(arguments), dict(keywords)
            for place, value in zip(places, self._objects(pickled, len(places)), strict=True):
                if place is None:
                    function = value
                elif isinstance(place, int):
                    arguments[place] = value
                else:
                    keywords[place] = value
        return function(*first, *arguments, **keywords)

    def _function(self, number: int) -> Callable[..., Any]:
        if number in self._reusable:
            return self._reusable[number]
        function: Callable[..., Any]
        (function,) = self._objects(self._functions[number], 1)
        if self._functions[number][2]:
            self._reusable[number] = function
        return function

    def _objects(self, pickled: _Objects, number: int) -> list[Any]:
        segments, memory, _ = pickled
        parts = [self._bytes(part) for part in segments]
        buffers = [_copy(self._bytes(part)) if copied else _shown(self._bytes(part)) for part, copied in memory]
        # From our own client, as the task itself.
        unpickler = pickle.Unpickler(io.BytesIO(b"".join(parts)), buffers=buffers)  # noqa: S301
        return [unpickler.load() for _ in range(number)]

    def _bytes(self, part: _Part) -> bytes:
        return self._shared[part] if isinstance(part, int) else part


def _answered(results: list[Any], opened: str) -> Answered:
    if all(map(is_atom, results)):
        return Answered(tuple(results), pickled=False, opened=opened)
    return Answered(tuple(cloudpickle.dumps(result, protocol=5) for result in results), pickled=True, opened=opened)


def _copy(data: bytes) -> bytearray:
    return bytearray(data)


def _shown(data: bytes) -> memoryview:
    """Show bytes that nobody may change; the memory of arrays has to start at certain addresses."""
    if np.frombuffer(data, np.uint8).ctypes.data % ALIGNMENT:
        data = np.frombuffer(data, np.uint8).copy().data  # type: ignore[assignment]
    return memoryview(data).toreadonly()
