"""What a run gives to the thread that waits for it, and how much of it that thread has not taken yet."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from tritoncluster.balance.bell import Bell
from tritoncluster.balance.chunks import Answered
from tritoncluster.balance.chunks import Failure as CallFailure
from tritoncluster.balance.kept import Kept

#: Results that nobody has taken yet, in bytes, above which no more calls are sent.
RESULT_BYTES = 256 << 20


@dataclass(frozen=True)
class Result:
    """The answer for one item.

    Its results are unpickled by whoever asks for them first, in the thread of that one.

    Parameters
    ----------
    item
        Its number.
    answered
        As it came from the worker, or as the journal has it.
    calls
        The number of its calls.
    """

    item: int
    answered: Answered | Kept
    calls: int

    @cached_property
    def results(self) -> list[Any]:
        """What its calls returned."""
        return self.answered.values[: self.calls]

    @property
    def extra(self) -> Any:
        """What was made of them afterwards; None where nothing was."""
        return self.answered.values[-1] if len(self.answered.parts) > self.calls else None


@dataclass(frozen=True)
class Failure:
    """Why a run ended early.

    Parameters
    ----------
    cause
        An exception, or what a call raised, which is unpickled by whoever asks for it.
    item
        One that it hit, if that is known.
    where
        A note on it.
    """

    cause: BaseException | CallFailure
    item: int | None = None
    where: str = ""

    @cached_property
    def error(self) -> BaseException:
        """The exception to raise."""
        error = self.cause.error if isinstance(self.cause, CallFailure) else self.cause
        if self.where:
            with suppress(Exception):  # as a class may have a note that is no list
                BaseException.add_note(error, self.where)
        return error


#: What a run gives; None is the end.
Outcome: TypeAlias = Result | Failure | None


class Outcomes:
    """Results on their way to the thread that waits for them.

    Parameters
    ----------
    bounded
        Whether that thread may leave results alone for long, and no more should be computed then.
    ordered
        Whether it takes them in the order of the items.

    Attributes
    ----------
    failure : Failure or None
        The first one.
    """

    def __init__(self, *, bounded: bool, ordered: bool) -> None:
        self._bounded, self._ordered = bounded, ordered
        self._queue: SimpleQueue[Outcome] = SimpleQueue()
        self._lock = threading.Lock()
        self._untaken: dict[int, int] = {}
        self._bytes = self._taken = 0
        self.failure: Failure | None = None

    def put(self, outcome: Outcome) -> None:
        """Take in what comes next."""
        if isinstance(outcome, Result) and self._bounded:
            with self._lock:
                size = self._untaken[outcome.item] = outcome.answered.nbytes
                self._bytes += size
        elif isinstance(outcome, Failure):
            self.failure = self.failure or outcome
        self._queue.put(outcome)

    def get(self, seconds: float | None) -> Outcome:
        """Wait for what comes next.

        Raises
        ------
        TimeoutError
            When nothing does.
        """
        try:
            return self._queue.get(block=seconds is not None, timeout=seconds)
        except Empty:
            raise TimeoutError from None

    @property
    def waiting(self) -> bool:
        """Whether something is there for `get`."""
        return not self._queue.empty()

    def took(self, item: int) -> bool:
        """Note that the result of an item is in the hands of who asked for it; tell whether calls may go on again."""
        with self._lock:
            before = self._bytes
            self._bytes -= self._untaken.pop(item, 0)
            self._taken += 1
            return self._bytes <= RESULT_BYTES < before or not self._next_is_here

    @property
    def enough(self) -> bool:
        """Whether there is more than enough for now, and the next one that will be asked for is among it."""
        with self._lock:
            return self._bytes > RESULT_BYTES and self._next_is_here

    @property
    def _next_is_here(self) -> bool:
        return self._taken in self._untaken if self._ordered else bool(self._untaken)


class Room:
    """How much of what was added is not answered yet, for whoever adds more.

    Items are added by one thread at a time, and answered in the event loop: each has sums of its own, and no lock.

    Parameters
    ----------
    items
        The number of items that may be added in any case.
    nbytes
        Bytes of arguments above which no more should be added.
    """

    def __init__(self, items: int, nbytes: int) -> None:
        self.items = items
        self._limit = nbytes
        self._bell = Bell()
        self._added_items = self._added_bytes = 0
        self._answered_items = self._answered_bytes = 0
        self._open = True

    def take(self, nbytes: int) -> None:
        """Note that an item was added."""
        self._added_items += 1
        self._added_bytes += nbytes

    def give_back(self, items: int, nbytes: int) -> None:
        """Note that items were answered."""
        self._answered_items += items
        self._answered_bytes += nbytes
        self._bell.ring()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._open = False
        self._bell.ring()

    @property
    def left(self) -> bool:
        """Whether there is some."""
        return (
            not self._open
            or self._added_bytes - self._answered_bytes <= self._limit
            or self._added_items - self._answered_items < self.items
        )

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for some."""
        return self._bell.heard

    def wait(self, seconds: float) -> bool:
        """Wait until there is some, and tell whether there is."""
        return self._bell.wait_for(lambda: self.left, seconds)
