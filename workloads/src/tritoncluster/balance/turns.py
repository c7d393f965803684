"""Whose turn it is on a worker: the decisions, without a cluster.

A worker's threads are shared by weight among those who have something to do there: runs of ours, each by itself, and
all other tasks of Dask together. Each has a virtual time, the seconds that it used threads divided by its weight; who
is behind goes first, and who comes is set to where the others are (fair queueing: A. Demers, S. Keshav, S. Shenker,
SIGCOMM 1989; start-time fair queueing: P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996). Nobody is interrupted within an item.

Only chunks of ours can wait: Dask starts other tasks as soon as a thread is free. So a chunk pauses when somebody who
is behind waits for a thread, and goes on when its own run is behind, or nobody else wants the thread.

Nothing here knows Dask or a clock; whoever keeps `Turns` says what is on the worker, and when.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

#: Seconds that each thread is ahead of whoever waits when it changes hands: a turn is twice that. Each change costs a
#: millisecond.
AHEAD = 0.1
#: Of these seconds, as many times more that somebody who comes may have before the others: it need not wait for them.
WELCOME = 1.5
#: Seconds in which whoever may have a free thread has to take it: a worker with a share of a processor is slow to hand
#: it over.
GRACE = 0.3
#: Seconds after which tasks that wait at the scheduler are offered a thread again, when none came the last time; twice
#: as many each time.
OFFER_AGAIN, OFFER_AGAIN_LATEST = 2.0, 32.0
#: Seconds for which it holds what was said of others that a worker does not see.
KNOWN = 10.0
#: Runs that are remembered.
MOST_RUNS = 100

#: The name of all tasks that are not ours.
OTHERS = ""


@dataclass(frozen=True)
class Seen:
    """What a worker has to do.

    Parameters
    ----------
    threads
        How many it has.
    chunks
        Tasks of ours that it runs, or could: key -> what the run says of itself. See `Account`.
    executing, ready
        Tasks of others that it has given to its threads, some of which may be busy with ours; those that wait.
    """

    threads: int
    chunks: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    executing: int = 0
    ready: int = 0


class Stage(Enum):
    """What a chunk does."""

    COMPUTING = auto()
    PAUSED = auto()
    #: It will go on as soon as a thread is free.
    COMING = auto()


@dataclass(eq=False, slots=True)
class Turn:
    """A chunk of ours that a worker has begun with."""

    key: str
    run: str
    stage: Stage = Stage.COMPUTING


@dataclass(eq=False, slots=True)
class Account:
    """What somebody used.

    Parameters
    ----------
    said
        What the run says of itself: `run`, its name among runs; `weight`; `work`, what it does; `who` started it.
    weight
        Its share of a worker, relative to others'.
    time
        Its virtual time.
    seconds
        In which it used a thread.
    before
        What others had used when it came, by their names.
    here
        Whether it has something to do.
    """

    said: Mapping[str, Any]
    weight: float = 1.0
    time: float = -math.inf
    seconds: float = 0.0
    before: Mapping[str, float] = field(default_factory=dict)
    here: bool = False


class Turns:
    """Whose turn it is on one worker."""

    def __init__(self) -> None:
        self._clients, self._queued, self._known_until = 1, False, -math.inf
        self._accounts: dict[str, Account] = {OTHERS: Account({"run": OTHERS})}
        self._turns: dict[str, Turn] = {}
        self._waiting: dict[str, int] = {}
        self._threads = 1
        self._others_running = 0
        self._now = -math.inf
        # Whoever was behind when anybody was here.
        self._last: Account | None = None
        self._free_since: float | None = None
        self._offer, self._offer_again = -math.inf, OFFER_AGAIN

    def know(self, clients: int, now: float, *, queued: bool) -> None:
        """Take note of what the worker does not see, for some seconds.

        Parameters
        ----------
        clients
            How many have tasks of Dask that are not ours: their common weight.
        queued
            Whether such tasks wait at the scheduler.
        """
        self._clients, self._queued, self._known_until = clients, queued, now + KNOWN

    def begin(self, key: str, said: Mapping[str, Any], seen: Seen, now: float) -> Turn:
        """Take in a chunk that a thread begins with; it may have to pause at once."""
        if not self._turns:
            self._now, self._others_running = now, 0
        self._look(seen, now)
        run = said["run"]
        if run not in self._accounts:
            self._take_in(run, said)
        # An older one goes first.
        waits = any(turn.run == run and turn.stage is not Stage.COMPUTING for turn in self._turns.values())
        turn = self._turns[key] = Turn(key, run)
        self._look(seen, now)
        if waits or self._is_up(turn):
            turn.stage = Stage.PAUSED
        return turn

    def pauses(self, turn: Turn, seen: Seen, now: float) -> bool:
        """Tell whether a chunk that computes has to pause; it then does."""
        self._look(seen, now)
        if self._is_up(turn):
            turn.stage = Stage.PAUSED
            self._look(seen, now)
        return turn.stage is Stage.PAUSED

    def resumes(self, turn: Turn, seen: Seen, now: float) -> bool:
        """Tell whether a chunk that is paused may go on, as soon as it has a thread."""
        self._look(seen, now)
        paused = (each for each in self._turns.values() if each.run == turn.run and each.stage is Stage.PAUSED)
        if next(paused, turn) is not turn:
            return False
        own = self._accounts[turn.run]
        behind = {run: n for run, n in self._waiting.items() if run != turn.run and self._accounts[run].time < own.time}
        if self._free > 0:
            if self._free <= sum(behind.values()) and not self._is_left(behind, own, now):
                return False
        else:
            # A thread that others have is free when their task ends.
            others = self._accounts[OTHERS]
            ahead = others.time - own.time > self._lead(own, others)
            if not ahead or self._others_running <= self._coming or any(run != OTHERS for run in behind):
                return False
        turn.stage = Stage.COMING
        self._look(seen, now)
        return True

    def came(self, turn: Turn, now: float) -> None:
        """Take note that a chunk has a thread again."""
        self._accrue(now)
        turn.stage = Stage.COMPUTING
        # It may have been others' until now; the next look may be as late as its next item.
        self._others_running = min(self._others_running, self._not_ours)

    def end(self, turn: Turn, now: float) -> None:
        """Take note that a chunk has ended."""
        self._accrue(now)
        # Dask may have begun with it once more, when its answer was lost.
        if self._turns.get(turn.key) is turn:
            del self._turns[turn.key]

    def beside(self, run: str) -> list[tuple[dict[str, Any], float]]:
        """List what all others have used since a run came, in seconds of a thread; who says what of itself."""
        before = self._accounts[run].before
        used = [
            (dict(account.said), account.seconds - before.get(other, 0.0))
            for other, account in self._accounts.items()
            if other != run
        ]
        return [(said, seconds) for said, seconds in used if seconds > 0]

    def _take_in(self, run: str, said: Mapping[str, Any]) -> None:
        # Those that have been here for longest without work are forgotten.
        for old in [each for each, account in self._accounts.items() if each != OTHERS and not account.here]:
            if len(self._accounts) <= MOST_RUNS:
                break
            del self._accounts[old]
        before = {other: account.seconds for other, account in self._accounts.items()}
        self._accounts[run] = Account(said, said["weight"], before=before)

    @property
    def _coming(self) -> int:
        return sum(turn.stage is Stage.COMING for turn in self._turns.values())

    @property
    def _not_ours(self) -> int:
        """Threads that no chunk of ours computes on."""
        return max(0, self._threads - sum(turn.stage is Stage.COMPUTING for turn in self._turns.values()))

    @property
    def _free(self) -> int:
        """Threads that nobody has or is about to have."""
        return self._threads - self._others_running - sum(t.stage is not Stage.PAUSED for t in self._turns.values())

    def _accrue(self, now: float) -> None:
        """Put what was used since the last look on the accounts."""
        seconds, self._now = max(0.0, now - self._now), now
        used = dict.fromkeys(self._accounts, 0.0)
        used[OTHERS] = seconds * self._others_running
        for turn in self._turns.values():
            if turn.stage is Stage.COMPUTING:
                used[turn.run] += seconds
        for run, more in used.items():
            account = self._accounts[run]
            account.seconds += more
            account.time += more / account.weight

    def _look(self, seen: Seen, now: float) -> None:
        """Take note of what is on the worker."""
        self._accrue(now)
        self._threads = seen.threads
        known = now < self._known_until
        self._accounts[OTHERS].weight = max(1, self._clients) if known else 1
        self._others_running = min(seen.executing, self._not_ours)
        self._waiting = {OTHERS: seen.executing - self._others_running + seen.ready}
        if self._waiting[OTHERS] or self._others_running:
            self._offer_again = OFFER_AGAIN
        elif known and self._queued and now >= self._offer:
            self._waiting[OTHERS] = 1
        for key, said in seen.chunks.items():
            if key not in self._turns:
                if said["run"] not in self._accounts:
                    self._take_in(said["run"], said)
                self._waiting[said["run"]] = self._waiting.get(said["run"], 0) + 1
        for turn in self._turns.values():
            self._waiting[turn.run] = self._waiting.get(turn.run, 0) + (turn.stage is Stage.PAUSED)
        self._free_since = None if self._free <= 0 else now if self._free_since is None else self._free_since
        here = {run for run in self._waiting if run != OTHERS}
        if self._waiting[OTHERS] or self._others_running:
            here.add(OTHERS)
        self._welcome(here)

    def _welcome(self, here: set[str]) -> None:
        """Set those who come to a little before whoever is behind of those who are here."""
        were = [account for account in self._accounts.values() if account.here]
        last = self._last = min(were, key=lambda account: account.time, default=self._last)
        for run, account in self._accounts.items():
            if run in here and not account.here:
                place = last.time - WELCOME * self._lead(last, account) if last else 0.0
                account.time = max(account.time, place)
            account.here = run in here

    def _lead(self, one: Account, other: Account) -> float:
        """Give how far one may be before another one."""
        return AHEAD * self._threads / min(one.weight, other.weight)

    def _is_up(self, turn: Turn) -> bool:
        """Tell whether others, who are behind, wait for the thread of a chunk."""
        own = self._accounts[turn.run]
        behind = 0
        for run, waiting in self._waiting.items():
            other = self._accounts[run]
            if run != turn.run and own.time - other.time > self._lead(own, other):
                behind += waiting
        return behind > max(0, self._free)

    def _is_left(self, behind: Mapping[str, int], own: Account, now: float) -> bool:
        """Tell whether those who are behind leave a free thread alone; they lose what they were behind."""
        if self._free_since is None or now - self._free_since < GRACE:
            return False
        for run in behind:
            self._accounts[run].time = max(self._accounts[run].time, own.time)
        if OTHERS in behind:
            self._offer = now + self._offer_again
            self._offer_again = min(2 * self._offer_again, OFFER_AGAIN_LATEST)
        return True
