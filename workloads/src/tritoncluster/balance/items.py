"""The items of a run: which wait, which pieces have them, which are answered."""

import heapq
import math
from collections.abc import Iterable

from tritoncluster.balance.crew import Piece


class Items:
    """Items by number, from 0, in the order in which they were added.

    Attributes
    ----------
    cost : list of float
        An item's length relative to the others'.
    done : list of bool
        Whether an item is answered.
    copies : list of list of Piece
        The pieces of workers that hold an item.
    left : int
        Items without an answer.
    waiting_cost : float
        Cost of all that wait.
    """

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.done: list[bool] = []
        self.copies: list[list[Piece]] = []
        self.left = 0
        self.waiting_cost = 0.0
        self._waits: list[bool] = []
        # The longest first; among equals, in the order in which they came. The first of it waits indeed; others may no
        # longer.
        self._heap: list[tuple[float, int]] = []

    def add(self, cost: float) -> int:
        """Take in an item, which waits, and give its number."""
        self.cost.append(cost if cost > 0 and math.isfinite(cost) else 1.0)
        self.done.append(False)
        self.copies.append([])
        self._waits.append(False)
        self.left += 1
        self._wait(len(self.cost) - 1)
        return len(self.cost) - 1

    @property
    def first(self) -> int | None:
        """The item that is next, None when none waits."""
        return self._heap[0][1] if self._heap else None

    def take(self) -> int:
        """Give the item that is next; it no longer waits."""
        item = self._heap[0][1]
        self._wait_no_longer(item)
        return item

    def hold(self, piece: Piece) -> None:
        """Note that a worker has a piece."""
        for item in piece.items:
            self.copies[item].append(piece)

    def drop(self, piece: Piece) -> list[int]:
        """Note that a worker no longer has a piece; give its items without an answer. They wait."""
        for item in piece.items:
            if piece in self.copies[item]:
                self.copies[item].remove(piece)
        self.wait_unless_held(piece.items)
        return [item for item in piece.items if not self.done[item]]

    def shorten(self, piece: Piece, number: int) -> None:
        """Take from a piece all but its first items, which other pieces have."""
        for item in piece.items[number:]:
            self.copies[item].remove(piece)
        piece.items = piece.items[:number]
        piece.cost = self.total_cost(piece.items)

    def answer(self, item: int) -> None:
        """Note that an item is answered."""
        self.done[item] = True
        self.left -= 1
        self._wait_no_longer(item)

    def wait_unless_held(self, items: Iterable[int]) -> None:
        """Let items wait that have no answer, nor a worker that is counted upon."""
        for item in items:
            if not self.done[item] and not any(piece.counted_upon for piece in self.copies[item]):
                self._wait(item)

    def total_cost(self, items: Iterable[int]) -> float:
        """Add up costs."""
        return math.fsum(self.cost[item] for item in items)

    def _wait(self, item: int) -> None:
        if not self._waits[item]:
            self._waits[item] = True
            self.waiting_cost += self.cost[item]
            heapq.heappush(self._heap, (-self.cost[item], item))

    def _wait_no_longer(self, item: int) -> None:
        if self._waits[item]:
            self._waits[item] = False
            self.waiting_cost -= self.cost[item]
        while self._heap and not self._waits[self._heap[0][1]]:
            heapq.heappop(self._heap)
        if not self._heap:
            self.waiting_cost = 0.0
