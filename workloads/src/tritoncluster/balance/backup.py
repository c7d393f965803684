"""What idle threads do when no item waits: take over what others have not begun, or repeat what is expected last."""

import math
from collections.abc import Iterator

from tritoncluster.balance.crew import Crew, Piece, Worker
from tritoncluster.balance.items import Items

#: Seconds in which a piece reaches a worker and its answer comes back.
ROUND_TRIP = 0.01


def not_begun(crew: Crew, items: Items, sent: list[Piece], now: float) -> Piece | None:
    """Find what is behind a worker's running pieces, but not just `sent`, that an idle thread would end before."""
    idle = list(crew.idle.values())
    behind = [piece for worker in crew.workers.values() for piece in worker.pieces[worker.threads :]]
    behind = [piece for piece in behind if piece.counted_upon and piece not in sent]
    if not idle or not behind:
        return None
    for worker in {piece.worker.address: piece.worker for piece in behind}.values():
        # What is late since, is later the longer nothing is heard.
        crew.look_at(worker, now)
    last = max(behind, key=lambda piece: piece.worker.ready)
    speed = max(crew.speed(worker) or 0.0 for worker in idle)
    soon = not speed or now + ROUND_TRIP + items.cost[last.items[0]] / speed < last.worker.ready
    return last if soon else None


def repeats(crew: Crew, items: Items, now: float) -> Iterator[tuple[Worker, list[int]]]:
    """Give idle workers, and what each may compute again: items expected last that it is expected to end before."""
    idle = [worker for worker in crew.idle.values() for _ in range(worker.idle)]
    idle.sort(key=lambda worker: crew.speed(worker) or 0.0)
    running = [piece for worker in crew.workers.values() for piece in worker.running] if idle and items.left else []
    ends = [(crew.expected(piece, now), piece) for piece in running]
    for end, piece in sorted(ends, key=lambda each: -each[0]):
        left = [item for item in piece.items if not items.done[item] and len(items.copies[item]) == 1]
        while idle and left and idle[-1] is not piece.worker:
            part = left[-math.ceil(len(left) / len(idle)) :]
            if now + ROUND_TRIP + _seconds_elsewhere(crew, piece, items.total_cost(part), idle[-1], end) >= end:
                break
            del left[-len(part) :]
            yield idle.pop(), part


def _seconds_elsewhere(crew: Crew, piece: Piece, cost: float, worker: Worker, end: float) -> float:
    """Give how long another worker would take for a part of a running piece that is expected at `end`."""
    here, there = crew.speed(piece.worker), crew.speed(worker)
    if here is None or there is None or piece.start is None:
        return math.inf
    if crew.rates.uneven:
        # It is then the items that take longer than expected, and would on any worker.
        cost *= max(1.0, (end - piece.start) * here / piece.cost)
    return cost / there
