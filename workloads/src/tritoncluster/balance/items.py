"""The items of a run that have no answer yet: which wait, and which chunks hold them."""

import heapq
import math
from collections.abc import Iterable

from tritoncluster.balance.model import Chunk, Item


class Items:
    """Items in the order in which they are handed out: the longest first, equal ones as they were added.

    Those that are answered, or with a worker, are not kept here.

    Attributes
    ----------
    left : int
        Items without an answer.
    waiting_cost : float
        Cost of all that wait.
    alike : bool
        Whether all that were added cost the same.
    """

    def __init__(self) -> None:
        self.left = 0
        self.waiting_cost = 0.0
        self.alike = True
        self._cost: float | None = None
        self._added = self._waiting = 0
        # The first of it waits indeed; others may no longer.
        self._heap: list[tuple[float, int, Item]] = []

    def add(self, cost: float, payload: object) -> Item:
        """Take in an item, which waits."""
        item = Item(self._added, cost if cost > 0 and math.isfinite(cost) else 1.0, payload)
        self.alike = self.alike and self._cost in (None, item.cost)
        self._cost = item.cost
        self._added += 1
        self.left += 1
        self._wait(item)
        return item

    def skip(self) -> int:
        """Give the next number to an item that is answered already."""
        self._added += 1
        return self._added - 1

    @property
    def first(self) -> Item | None:
        """The item that is next, None when none waits."""
        return self._heap[0][2] if self._heap else None

    def take(self) -> Item:
        """Give the item that is next; it no longer waits."""
        item = self._heap[0][2]
        self._wait_no_longer(item)
        return item

    def hold(self, chunk: Chunk) -> None:
        """Note that a worker has a chunk."""
        for item in chunk.items:
            item.holders.append(chunk)

    def drop(self, chunk: Chunk) -> list[Item]:
        """Note that a worker no longer has a chunk; give its items without an answer. They wait."""
        for item in chunk.items:
            if chunk in item.holders:
                item.holders.remove(chunk)
        unanswered = [item for item in chunk.items if not item.done]
        self.wait_unless_held(unanswered)
        return unanswered

    def shorten(self, chunk: Chunk, number: int) -> None:
        """Take from a chunk all but its first items, which other chunks have."""
        for item in chunk.items[number:]:
            item.holders.remove(chunk)
        chunk.shorten(number)

    def answer(self, item: Item) -> None:
        """Note that an item is answered."""
        item.done = True
        self.left -= 1
        if item.waits:
            self._wait_no_longer(item)

    def wait_unless_held(self, items: Iterable[Item]) -> None:
        """Let items wait that have no answer, nor a worker that is counted upon; and no others."""
        for item in items:
            if item.done or item.counted_upon:
                self._wait_no_longer(item)
            else:
                self._wait(item)

    def _wait(self, item: Item) -> None:
        if not item.waits:
            item.waits = True
            self._waiting += 1
            self.waiting_cost += item.cost
            heapq.heappush(self._heap, (-item.cost, item.number, item))

    def _wait_no_longer(self, item: Item) -> None:
        if not item.waits:
            return
        item.waits = False
        self._waiting -= 1
        self.waiting_cost -= item.cost
        while self._heap and not self._heap[0][2].waits:
            heapq.heappop(self._heap)
        # Answered ones deep in the heap, behind longer ones that come all the time, would never be let go of.
        if len(self._heap) > 2 * self._waiting + 100:
            self._heap = [(-each.cost, each.number, each) for each in {each for *_, each in self._heap if each.waits}]
            heapq.heapify(self._heap)
        if not self._heap:
            self.waiting_cost = 0.0
