"""What the queue decides on: items of work, chunks of them, and workers that have chunks; and what it says of them.

What may happen to a chunk or to a worker is a method here, or an event; nobody else changes their states.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(eq=False, slots=True)
class Item:
    """A piece of work that is answered once.

    Nobody but its driver keeps it when it is answered.

    Parameters
    ----------
    number
        Its place in the order in which items were added, from 0.
    cost
        Its length relative to the others'.
    payload
        What the driver keeps with it; the queue does not look at it.
    done
        Whether it is answered.
    waits
        Whether a worker has still to be found for it.
    holders
        The chunks, with workers, that hold it.
    losses
        How often a worker was lost that was computing it.
    """

    number: int
    cost: float
    payload: object = None
    done: bool = False
    waits: bool = False
    holders: list["Chunk"] = field(default_factory=list)
    losses: int = 0

    @property
    def counted_upon(self) -> bool:
        """Whether an answer is expected of a worker that holds it."""
        return any(chunk.counted_upon for chunk in self.holders)


class ChunkState(Enum):
    """What is known of a chunk that a worker has."""

    #: Behind others that the worker computes.
    QUEUED = auto()
    RUNNING = auto()
    #: It takes so long that its answer is no longer expected, even when its worker answers others.
    STRAGGLING = auto()


@dataclass(eq=False, slots=True)
class Chunk:
    """Items that a worker computes in one go.

    Parameters
    ----------
    worker, items
        Whose; which items, in the order in which they are computed.
    cost
        Of all items.
    state
        What is known of it.
    start
        When the worker must have begun with it; None while it is queued.
    """

    worker: "Worker"
    items: tuple[Item, ...]
    cost: float = field(init=False)
    state: ChunkState = field(default=ChunkState.QUEUED, init=False)
    start: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.cost = total_cost(self.items)

    @property
    def counted_upon(self) -> bool:
        """Whether its answer is expected."""
        return self.worker.trusted and self.state is not ChunkState.STRAGGLING

    @property
    def needed(self) -> bool:
        """Whether any of its items has no answer."""
        return not all(item.done for item in self.items)

    def begin(self, now: float) -> None:
        """Note that its worker computes it, at the latest from now on."""
        if self.state is ChunkState.QUEUED:
            self.state, self.start = ChunkState.RUNNING, now

    def straggle(self) -> None:
        """Note that its answer is no longer expected."""
        self.state = ChunkState.STRAGGLING

    def shorten(self, number: int) -> None:
        """Leave its first items."""
        self.items = self.items[:number]
        self.cost = total_cost(self.items)


class WorkerState(Enum):
    """Whether a worker is counted upon, and why not."""

    #: It gets chunks, and their answers are expected.
    RUNNING = auto()
    #: It has not answered in time; what it has waits again, and it gets no more until it is heard from. A failure
    #: detector of the kind that may be wrong (T. Chandra and S. Toueg, JACM 43(2), 1996).
    SUSPECTED = auto()
    #: It takes no more for now, as when its memory is full; what it still finishes is welcome.
    PAUSED = auto()
    #: It is about to go, as somebody planned; what it still finishes is welcome.
    RETIRING = auto()
    GONE = auto()


class Event(Enum):
    """What happens to a worker."""

    #: It has not answered in time.
    LATE = auto()
    #: It has answered.
    HEARD = auto()
    #: It is said to run, to be paused, to leave soon, to be gone.
    RUNS = auto()
    PAUSES = auto()
    RETIRES = auto()
    GOES = auto()

    @classmethod
    def of_status(cls, status: str) -> "Event":
        """Give what it means that a worker has one of distributed's statuses."""
        if status == "running":
            return cls.RUNS
        # A worker that dies has none of these: the scheduler hears nothing before its connection breaks.
        planned = ("closing_gracefully", "closing", "closed", "stopping", "stopped")
        return cls.RETIRES if status in planned else cls.PAUSES


#: Event -> the states in which it means anything, and the one that follows.
_TRANSITIONS = {
    Event.LATE: ({WorkerState.RUNNING}, WorkerState.SUSPECTED),
    Event.HEARD: ({WorkerState.SUSPECTED}, WorkerState.RUNNING),
    # Whoever says that it runs has not heard from its threads.
    Event.RUNS: ({WorkerState.PAUSED, WorkerState.RETIRING}, WorkerState.RUNNING),
    Event.PAUSES: (set(WorkerState) - {WorkerState.GONE}, WorkerState.PAUSED),
    Event.RETIRES: (set(WorkerState) - {WorkerState.GONE}, WorkerState.RETIRING),
    Event.GOES: (set(WorkerState), WorkerState.GONE),
}


def following(state: WorkerState, event: Event) -> WorkerState:
    """Give the state of a worker after an event."""
    before, after = _TRANSITIONS[event]
    return after if state in before else state


@dataclass(eq=False, slots=True)
class Worker:
    """A worker.

    Parameters
    ----------
    address, name, threads
        Its address, which is its own; its name, which one that replaces it has too; how many chunks it runs at a time.
    chunks
        What it has, in the order in which it takes them.
    state
        Whether it is counted upon.
    ready
        When it will be done with its chunks.
    free
        When a thread of it will have nothing to do, unless it gets more.
    speed
        Cost a second of a thread, as it is reckoned with; 0 while it is not counted upon, or no speed is known.
    busy
        Of a worker that has chunks, its power, and that times when it will be ready.
    """

    address: str
    name: str
    threads: int
    chunks: list[Chunk] = field(default_factory=list)
    state: WorkerState = WorkerState.RUNNING
    ready: float = 0.0
    free: float = 0.0
    speed: float = 0.0
    busy: tuple[float, float] = (0.0, 0.0)

    @property
    def trusted(self) -> bool:
        """Whether it is counted upon."""
        return self.state is WorkerState.RUNNING

    @property
    def power(self) -> float:
        """Cost a second of all its threads."""
        return self.threads * self.speed

    @property
    def running(self) -> list[Chunk]:
        """The chunks that its threads compute."""
        return self.chunks[: self.threads]

    @property
    def queued(self) -> list[Chunk]:
        """The chunks behind those."""
        return self.chunks[self.threads :]

    @property
    def items(self) -> Iterable[Item]:
        """The items of its chunks."""
        return (item for chunk in self.chunks for item in chunk.items)

    @property
    def idle(self) -> int:
        """The number of threads that have nothing to do."""
        spare = self.threads - len(self.chunks)
        return spare if spare > 0 and self.trusted else 0

    @property
    def room(self) -> int:
        """Chunks that it could take, with those to have beyond what runs, so that no thread waits for a round trip."""
        spare = self.threads + -(-self.threads // 2) - len(self.chunks)
        return spare if spare > 0 and self.trusted else 0


@dataclass(frozen=True)
class Finished:
    """What a finished chunk brings: the places in it of items that had no answer yet, and chunks nobody needs now."""

    new: list[int]
    obsolete: list[Chunk]


@dataclass
class Decision:
    """What to do next.

    Parameters
    ----------
    sent
        Chunks to send.
    taken
        Chunks to take back: their workers have not begun with them, or nobody needs them any more.
    shortened
        Chunks that are now shorter: their workers should stop before the first item that is no longer in them, or as
        soon as they hear of it.
    more
        Whether there is more to decide at once, when this is done.
    """

    sent: list[Chunk] = field(default_factory=list)
    taken: list[Chunk] = field(default_factory=list)
    shortened: list[Chunk] = field(default_factory=list)
    more: bool = False


def total_cost(items: Iterable[Item]) -> float:
    """Add up costs."""
    return math.fsum(item.cost for item in items)
