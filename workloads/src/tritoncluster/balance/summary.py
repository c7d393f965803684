"""Who did how much of a run: for reports, and for whoever wonders whether a machine helps."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Share:
    """What one worker did.

    Attributes
    ----------
    threads : int
        Of the worker.
    presence : list of (float, float or None)
        When it came and went, in seconds since the run's start; None where it was there to the end.
    items, chunks : int
        Items that it computed, and chunks in which they came.
    repeats : int
        Of these items, those that another worker answered first.
    lost : int
        Items that it was computing when it went.
    silent : bool
        Whether it gave no answer when it was asked how it is, be it for a while.
    work, busy : float
        Cost of its items, and the seconds that its threads took for them.
    beside : dict of str to list of (dict, float)
        What others used meanwhile, as `Answer.beside` has it, by the worker's address.
    """

    threads: int
    presence: list[tuple[float, float | None]] = field(default_factory=list)
    items: int = 0
    chunks: int = 0
    repeats: int = 0
    lost: int = 0
    silent: bool = False
    work: float = 0.0
    busy: float = 0.0
    beside: dict[str, list[tuple[dict[str, Any], float]]] = field(default_factory=dict)

    def came(self, time: float) -> None:
        """Note that the worker came."""
        self.presence.append((time, None))

    def went(self, time: float) -> None:
        """Note that the worker went."""
        begin, _ = self.presence.pop()
        self.presence.append((begin, time))

    def present(self, seconds: float) -> float:
        """Give for how many of a run's seconds the worker was there."""
        return math.fsum(max(0.0, (seconds if end is None else end) - begin) for begin, end in self.presence)

    @property
    def others(self) -> float:
        """Seconds for which others used the worker's threads, as far as it is known."""
        return math.fsum(seconds for used in self.beside.values() for _, seconds in used)

    def possible(self, seconds: float) -> float:
        """Give for how many of a run's seconds the worker was there for this run."""
        return max(0.0, self.present(seconds) - self.others / self.threads)

    @property
    def rate(self) -> float | None:
        """Work a second of the whole worker while it computes, None when it did nothing."""
        return self.threads * self.work / self.busy if self.busy else None


@dataclass
class Other:
    """Who used workers at the same time.

    Attributes
    ----------
    who, work, weight
        The user and machine, what is done, and its weight; empty and None for other tasks of Dask, of all clients.
    seconds
        For which it used threads of workers, while this run was there.
    """

    who: str = ""
    work: str = ""
    weight: float | None = None
    seconds: float = 0.0


@dataclass
class Summary:
    """A run of calls on the workers of a cluster.

    Attributes
    ----------
    name : str
        Of the function that was called.
    seconds : float
        From the first call that was added to the last answer.
    work : float
        Cost of all calls that were answered; the number of calls where no cost was given.
    shares : dict of str to Share
        By name of the worker.
    kept : int
        Items besides that an earlier run had finished.
    weight : float
        Its share of workers that others use, too, relative to theirs.
    """

    name: str
    seconds: float = 0.0
    work: float = 0.0
    shares: dict[str, Share] = field(default_factory=dict)
    kept: int = 0
    weight: float = 1.0

    @property
    def others(self) -> list[Other]:
        """Who else used the workers, as far as they know, who used most first."""
        found: dict[str, Other] = {}
        for share in list(self.shares.values()):
            for said, seconds in [each for used in list(share.beside.values()) for each in used]:
                known = {name: said[name] for name in ("who", "work", "weight") if name in said}
                found.setdefault(said["run"], Other(**known)).seconds += seconds
        return sorted(found.values(), key=lambda other: -other.seconds)

    @property
    def efficiency(self) -> float | None:
        """The rate of all, divided by the sum of the workers' own rates; None when nothing is measured.

        What others used of a worker was not there for this run.

        A worker's rate is that of the items that it happened to get: with few items of very different length, this is a
        rough figure.
        """
        # A copy: a run that is not over yet may add to it.
        shares = list(self.shares.values())
        possible = math.fsum(share.rate * share.possible(self.seconds) for share in shares if share.rate)
        return self.work / possible if possible else None

    def to_json(self) -> dict[str, Any]:
        """Give what `result.json` has of it."""
        return {
            "function": self.name,
            "seconds": self.seconds,
            "calls": self.work,
            "kept": self.kept,
            "efficiency": self.efficiency,
            "weight": self.weight,
            "others": [
                {"who": other.who, "work": other.work, "weight": other.weight, "busy_seconds": other.seconds}
                for other in self.others
            ],
            "workers": [
                {
                    "name": name,
                    "calls": share.items,
                    "chunks": share.chunks,
                    "repeats": share.repeats,
                    "lost": share.lost,
                    "busy_seconds": share.busy,
                    "others_busy_seconds": share.others,
                    "rate": share.rate,
                }
                for name, share in sorted(self.shares.items(), key=lambda each: (len(each[0]), each[0]))
            ],
        }


_observers: ContextVar[list[Summary] | None] = ContextVar("observers", default=None)


@contextmanager
def observed() -> Iterator[list[Summary]]:
    """Yield a list that takes the summaries of the runs that start inside, in the order of their start."""
    summaries: list[Summary] = []
    token = _observers.set(summaries)
    try:
        yield summaries
    finally:
        _observers.reset(token)


def new_summary(name: str) -> Summary:
    """Make a summary, and show it to whoever observes."""
    summary = Summary(name)
    if (summaries := _observers.get()) is not None:
        summaries.append(summary)
    return summary
