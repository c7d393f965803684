"""What idle threads do when no item waits: take over what others have not begun, or repeat what is expected last."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from tritoncluster.balance.crew import ROUND_TRIP, Crew, Piece, Worker
from tritoncluster.balance.items import Items


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
    fastest = max(idle, key=lambda worker: crew.speed(worker) or 0.0)
    speed = crew.speed(fastest)
    if not speed:
        return last
    soon = now + crew.trip(fastest) + items.cost[last.items[0]] / speed < last.worker.ready
    return last if soon and crew.helps(fastest, crew.end(last.cost, now) - now) else None


class TakeOver(NamedTuple):
    """What idle workers compute of a running piece: all from the item at `place` on; from 0, all once more."""

    piece: Piece
    place: int
    parts: list[tuple[Worker, list[int]]]


def take_overs(crew: Crew, items: Items, now: float) -> Iterator[TakeOver]:
    """Let idle threads take from the pieces that are expected last what makes all end sooner."""
    idle = [worker for worker in crew.idle.values() if crew.speed(worker) for _ in range(worker.idle)]
    idle.sort(key=lambda worker: crew.speed(worker) or 0.0, reverse=True)
    running = [piece for worker in crew.workers.values() for piece in worker.running] if idle and items.left else []
    ends = {piece: crew.expected(piece, now) for piece in running}
    for piece, end in sorted(ends.items(), key=lambda each: -each[1]):
        if not idle:
            break
        left = [item for item in piece.items if not items.done[item] and _is_soonest(end, items.copies[item], ends)]
        holders = {copy.worker for item in left for copy in items.copies[item]}
        able = [worker for worker in idle if worker not in holders]
        if piece.start is None or not left or not able:
            continue
        place, rest = _place_to_cut(crew, items, piece, able, now, end)
        choices = [
            (max(until, rest if start else 0.0), TakeOver(piece, start, parts))
            for start in {0, place}
            for until, parts in [_spread(crew, items, piece, piece.items[start:] if start else left, able, now, end)]
        ]
        sooner, best = min(choices, key=lambda each: each[0])
        if sooner < end - ROUND_TRIP:
            for worker, _ in best.parts:
                idle.remove(worker)
            yield best


def _is_soonest(end: float, copies: list[Piece], ends: Mapping[Piece, float]) -> bool:
    return all(ends.get(copy, math.inf) >= end for copy in copies)


def _place_to_cut(
    crew: Crew, items: Items, piece: Piece, able: list[Worker], now: float, end: float
) -> tuple[int, float]:
    """Give where to cut a running piece so that its worker and others end together, and when; 0 for nowhere."""
    start = now if piece.start is None else piece.start
    pace = (end - start) / piece.cost
    trips = [crew.trip(worker) for worker in able]
    speeds = [1 / _seconds_elsewhere(crew, piece, 1.0, worker, end) for worker in able]
    # Of the first of them, then of the first two, and so on: their speed, and what they miss while pieces travel.
    together = list(accumulate(speeds))
    missed = list(accumulate(speed * trip for speed, trip in zip(speeds, trips, strict=True)))
    place, done, behind, last = len(piece.items), end, 0.0, 0
    while place > 1:
        item = piece.items[place - 1]
        behind += items.cost[item]
        begin = end - behind * pace
        # What is probably begun, or elsewhere already, stays.
        if begin <= now or items.done[item] or len(items.copies[item]) > 1:
            break
        seconds = (behind + missed[last]) / together[last]
        while last + 1 < min(len(able), len(piece.items) - place + 1) and trips[last + 1] < seconds:
            last += 1
            seconds = (behind + missed[last]) / together[last]
        if now + seconds > begin:
            break
        place, done = place - 1, begin
    return (place, done) if place < len(piece.items) else (0, math.inf)


def _spread(
    crew: Crew, items: Items, piece: Piece, part: Sequence[int], able: list[Worker], now: float, end: float
) -> tuple[float, list[tuple[Worker, list[int]]]]:
    """Share items of a running piece out to idle threads; give also when they would end, if before the piece.

    A piece is answered as a whole: to have a part of it sooner is of no use.
    """
    able = able[: len(part)]
    parts: list[list[int]] = [[] for _ in able]
    ready = [now + crew.trip(worker) for worker in able]
    for item in part:
        after = [
            when + _seconds_elsewhere(crew, piece, items.cost[item], worker, end)
            for when, worker in zip(ready, able, strict=True)
        ]
        soonest = min(after)
        if soonest >= end:
            return math.inf, []
        place = after.index(soonest)
        ready[place] = soonest
        parts[place].append(item)
    until = max(when for when, part in zip(ready, parts, strict=True) if part)
    return until, [(worker, part) for worker, part in zip(able, parts, strict=True) if part]


def _seconds_elsewhere(crew: Crew, piece: Piece, cost: float, worker: Worker, end: float) -> float:
    """Give how long another worker would take for a part of a running piece that is expected at `end`."""
    here, there = crew.speed(piece.worker), crew.speed(worker)
    if here is None or there is None or piece.start is None:
        return math.inf
    if crew.rates.uneven:
        # It is then the items that take longer than expected, and would on any worker.
        cost *= max(1.0, (end - piece.start) * here / piece.cost)
    return cost / there
