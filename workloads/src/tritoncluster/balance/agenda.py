"""Workers by a moment of theirs: those whose moment comes first are found without a look at the others."""

import heapq
from itertools import count

from tritoncluster.balance.model import Worker


class Agenda:
    """Workers, each with one moment at most."""

    def __init__(self) -> None:
        self._places: dict[Worker, int] = {}
        self._order = count()
        # Moment, place, worker. What has another place by now, or none, is of no account.
        self._heap: list[tuple[float, int, Worker]] = []

    def put(self, worker: Worker, when: float) -> None:
        """Give a worker a moment, instead of the one that it had."""
        place = self._places[worker] = next(self._order)
        heapq.heappush(self._heap, (when, place, worker))
        # What is of no account is let go of when it comes first, or is more than the rest.
        if len(self._heap) > 2 * len(self._places) + 100:
            self._heap = [each for each in self._heap if self._counts(each)]
            heapq.heapify(self._heap)

    def drop(self, worker: Worker) -> None:
        """Take its moment from a worker, if it has one."""
        self._places.pop(worker, None)

    def before(self, when: float) -> list[Worker]:
        """List the workers whose moment is earlier than that, the earliest first."""
        found = []
        while self._heap and self._heap[0][0] < when:
            each = heapq.heappop(self._heap)
            if self._counts(each):
                found.append(each)
        for each in found:
            heapq.heappush(self._heap, each)
        return [worker for _, _, worker in found]

    def _counts(self, each: tuple[float, int, Worker]) -> bool:
        return self._places.get(each[2]) == each[1]
