"""A run: what was asked for, what is answered, and a queue's decisions carried out.

Two kinds of threads meet here, and nowhere else:

- The caller's, one or several: they add items, pickling their calls, and take results, unpickling them. That is `Run`.
- The client's event loop, where all is decided and sent. That is `Driver`. No code of the user's runs in it.

They share what `Driver` says that any thread may touch, and two things with locks of their own: the `Outcomes` that the
caller waits for, and the `Room` for arguments.
"""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from distributed import Client

from tritoncluster.balance.arguments import Call, Packer, Parcel, Pickled
from tritoncluster.balance.broadcast import Sharing
from tritoncluster.balance.connection import Work
from tritoncluster.balance.driver import Driver, Options
from tritoncluster.balance.internals import AwayFromTask
from tritoncluster.balance.kept import Keeper
from tritoncluster.balance.outcomes import Failure, Outcome, Result
from tritoncluster.balance.summary import Summary
from tritoncluster.errors import ClusterLostError
from tritoncluster.journal import current

#: Seconds in which speeds reach the scheduler at the end.
LEAVE = 2.0
#: Seconds between looks at whether the client is closed, for who waits for it.
CLOSED = 1.0


class Run:
    """Items of work on a client's cluster.

    Methods may be called from any thread but that of the client's event loop.

    Parameters
    ----------
    client
        Whose cluster to use.
    function
        What is called, for the names of tasks. Speeds are remembered by it.
    sharing
        Where large arguments are.
    options
        How it is done.

    Raises
    ------
    TypeError
        When the client is asynchronous.
    ClusterLostError
        When it is not connected.
    """

    def __init__(self, client: Client, function: Any, sharing: Sharing, options: Options) -> None:
        check_client(client)
        self._client = client
        self._packing = threading.RLock()
        if journal := current():
            journal.begin()
        self._packer = Packer(sharing, options.read_only_bytes, identify=journal is not None)
        afterwards = self._packer.pack(options.afterwards) if options.afterwards else None
        self._keeper = Keeper(journal, afterwards, keep_results=options.keep_results) if journal else None
        self._driver = Driver(client, function, sharing, afterwards, options, self._keeper)
        self._away = AwayFromTask()
        loop_of(client).add_callback(self._driver.drive)

    @property
    def summary(self) -> Summary:
        """Who did how much; complete when the run has ended."""
        return self._driver.summary

    @property
    def seconds_of_call(self) -> float | None:
        """How long a call took in the last answer; None before the first one."""
        return self._driver.seconds_of_call

    def function(self, function: Any) -> Pickled:
        """Pickle a function for all calls of it that are added later, as it is now."""
        with self._packing:
            return self._packer.pack_function(function)

    def add(self, calls: Sequence[Call], cost: float = 1.0) -> None:
        """Add an item: calls that one worker makes, one after the other, as they are now. Items are numbered from 0.

        One that the journal has is answered from there.

        Raises
        ------
        Exception
            What can't be pickled; what ended the run before.
        """
        if self._driver.ended:
            failure = self._driver.outcomes.failure
            raise failure.error if failure else ClusterLostError()
        with self._packing:
            parcels = [self._packer.pack(call) for call in calls]
            keys = self._keeper.keys(parcels) if self._keeper else ()
            if self._keeper and (kept := self._keeper.find(keys, len(parcels))):
                self._driver.new.append((kept, cost))
            else:
                nbytes = sum(map(_own_bytes, parcels))
                self._driver.room.take(nbytes)
                self._driver.new.append((Work(parcels, nbytes, keys), cost))
        if self._driver.started:
            self._driver.nudge()

    @property
    def has_room(self) -> bool:
        """Whether more items may be added, as far as the bytes of their arguments are concerned."""
        return self._driver.room.left

    def wait_for_room(self) -> None:
        """Wait until more items may be added."""
        while not self._driver.room.left and self._client.status != "closed":
            self.start()
            self._away.leave()
            self._driver.room.wait(CLOSED)

    def settle(self) -> None:
        """Make sure that what was added so far is what was meant; a ChangedArgumentError says that nobody can tell."""
        with self._packing:
            self._packer.settle()

    def start(self) -> None:
        """Say that all has been added that is known at the start."""
        self._driver.started = True
        self._driver.nudge()

    def complete(self) -> None:
        """Say that no more items come."""
        self._driver.started = self._driver.complete = True
        self._driver.nudge()

    def end(self) -> None:
        """End now, nothing of what is not finished counts; and wait a moment until speeds are left for later runs."""
        self._driver.started = self._driver.ended = True
        self._driver.room.close()
        self._driver.nudge()
        # Whoever called may close the client next.
        if self._client.status == "running" and not _in_event_loop():
            self._driver.bell.wait_for(lambda: self._driver.left, LEAVE)
        self._away.come_back()

    def outcome(self) -> Outcome:
        """Wait for a result or a failure; None is the end."""
        with suppress(TimeoutError):
            return self._driver.outcomes.get(None)
        self._away.leave()
        while True:
            with suppress(TimeoutError):
                return self._driver.outcomes.get(CLOSED)
            if self._client.status == "closed":
                # Its event loop, where all is done, may have ended with it.
                self._driver.outcomes.put(None)
                return Failure(self._driver.lost)

    @property
    def has_outcome(self) -> bool:
        """Whether `outcome` gives one at once."""
        return self._driver.outcomes.waiting

    def took(self, result: Result) -> None:
        """Say that a result is in the hands of who asked for it."""
        if self._driver.outcomes.took(result.item):
            self._driver.nudge()

    def leave_task(self) -> None:
        """Let a worker have this thread, if it is one of its own, while it waits without `outcome`."""
        self._away.leave()

    def come_back_to_task(self) -> None:
        """Take the thread back."""
        self._away.come_back()


def loop_of(client: Client) -> Any:
    """Give the event loop of a client; raises ClusterLostError where it has none."""
    if client.loop is None:
        raise ClusterLostError
    return client.loop


def check_client(client: Client) -> None:
    """Raise what says that a client can't be used: TypeError, or ClusterLostError."""
    if client.asynchronous:
        raise TypeError(
            "this client is asynchronous: balanced work waits for its results in the caller's thread, and needs a "
            "Client(asynchronous=False); call it in a thread of its own, as by asyncio.to_thread"
        )
    # One that is connecting has lost its scheduler, and waits for it.
    if not client.loop or client.status not in ("running", "connecting"):
        raise ClusterLostError


def _own_bytes(parcel: Parcel) -> int:
    """Count the bytes that are here because of a call: a content that others are sent, too, counts for the first."""
    shared = sum(len(content) for content in parcel.pickled.contents() if content.calls > 1)
    return parcel.nbytes - shared


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
