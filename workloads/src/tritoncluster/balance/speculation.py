"""What idle threads do when no item waits: steal what others have not begun, or repeat what is expected last."""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, count, islice
from typing import NamedTuple

from tritoncluster.balance.model import Chunk, Item, Worker
from tritoncluster.balance.pool import ROUND_TRIP, Pool

#: Threads that help with one chunk at most. Each has a round trip before it begins: with thirty, a chunk of the longest
#: is done in ten of these.
MOST_HELPERS = 32


def steal_queued(pool: Pool, sent: list[Chunk], now: float) -> Iterator[Chunk]:
    """Find chunks behind their workers' running ones, but not just `sent`, that an idle thread would end before.

    What is given is to be handed out to idle threads before the next is asked for.
    """
    idle = sorted(pool.idle.values(), key=lambda worker: pool.speed(worker) or 0.0)
    new = set(sent) if idle else set()
    last: list[tuple[float, int, Chunk]] = []
    order = count()
    for worker in pool.workers.values() if idle else ():
        behind = [chunk for chunk in worker.queued if chunk.counted_upon and chunk not in new]
        if behind:
            # What is late since, is later the longer nothing is heard.
            pool.look_at(worker, now)
            last.extend((-worker.ready, next(order), chunk) for chunk in behind)
    heapq.heapify(last)
    while last and idle:
        ready, place, chunk = last[0]
        if chunk.worker.ready != -ready:
            # Another one behind it has been taken.
            heapq.heapreplace(last, (-chunk.worker.ready, place, chunk))
            continue
        fastest = idle[-1]
        if not fastest.idle:
            idle.pop()
            continue
        speed = pool.speed(fastest)
        if speed:
            soon = now + pool.trip(fastest) + chunk.items[0].cost / speed < chunk.worker.ready
            if not soon or not pool.helps(fastest, pool.end(chunk.cost, now) - now):
                return
        heapq.heappop(last)
        yield chunk


class TakeOver(NamedTuple):
    """What idle workers compute of a running chunk: all from the item at `place` on; from 0, all once more."""

    chunk: Chunk
    place: int
    parts: list[tuple[Worker, list[Item]]]


def split_running(pool: Pool, now: float) -> Iterator[TakeOver]:
    """Let idle threads take from the chunks that are expected last what makes all end sooner."""
    idle = [worker for worker in pool.idle.values() if pool.speed(worker) for _ in range(worker.idle)]
    idle.sort(key=lambda worker: pool.speed(worker) or 0.0, reverse=True)
    running = [chunk for worker in pool.workers.values() for chunk in worker.running] if idle else []
    ends = {chunk: pool.expected(chunk, now) for chunk in running}
    for chunk, end in sorted(ends.items(), key=lambda each: -each[1]):
        # The fastest has the shortest trip, and the following chunks end sooner.
        soonest = now + pool.trip(idle[0]) if idle else math.inf
        if soonest >= end - ROUND_TRIP:
            return
        # Long items come first: where it does not end the last one sooner, nobody ends any.
        if soonest + _seconds_elsewhere(pool, chunk, chunk.items[-1].cost, idle[0], end) >= end - ROUND_TRIP:
            continue
        left = [item for item in chunk.items if not item.done and _is_soonest(end, item.holders, ends)]
        holders = {copy.worker for item in left for copy in item.holders}
        # Each helper has an item at least.
        most = min(len(left), MOST_HELPERS)
        able = list(islice((worker for worker in idle if worker not in holders), most))
        if chunk.start is None or not able:
            continue
        place, rest = _place_to_cut(pool, chunk, able, now, end)
        choices = [
            (max(until, rest if start else 0.0), TakeOver(chunk, start, parts))
            for start in {0, place}
            for until, parts in [_spread(pool, chunk, chunk.items[start:] if start else left, able, now, end)]
        ]
        sooner, best = min(choices, key=lambda each: each[0])
        if sooner < end - ROUND_TRIP:
            for worker, _ in best.parts:
                idle.remove(worker)
            yield best


def _is_soonest(end: float, copies: list[Chunk], ends: Mapping[Chunk, float]) -> bool:
    return len(copies) == 1 or all(ends.get(copy, math.inf) >= end for copy in copies)


def _place_to_cut(pool: Pool, chunk: Chunk, able: list[Worker], now: float, end: float) -> tuple[int, float]:
    """Give where to cut a running chunk so that its worker and others end together, and when; 0 for nowhere."""
    start = now if chunk.start is None else chunk.start
    pace = (end - start) / chunk.cost
    trips = [pool.trip(worker) for worker in able]
    speeds = [1 / _seconds_elsewhere(pool, chunk, 1.0, worker, end) for worker in able]
    # Of the first of them, then of the first two, and so on: their speed, and what they miss while chunks travel.
    together = list(accumulate(speeds))
    missed = list(accumulate(speed * trip for speed, trip in zip(speeds, trips, strict=True)))
    place, done, behind, last = len(chunk.items), end, 0.0, 0
    while place > 1:
        item = chunk.items[place - 1]
        behind += item.cost
        begin = end - behind * pace
        # What is probably begun, or elsewhere already, stays.
        if begin <= now or item.done or len(item.holders) > 1:
            break
        seconds = (behind + missed[last]) / together[last]
        while last + 1 < min(len(able), len(chunk.items) - place + 1) and trips[last + 1] < seconds:
            last += 1
            seconds = (behind + missed[last]) / together[last]
        if now + seconds > begin:
            break
        place, done = place - 1, begin
    return (place, done) if place < len(chunk.items) else (0, math.inf)


def _spread(
    pool: Pool, chunk: Chunk, part: Sequence[Item], able: list[Worker], now: float, end: float
) -> tuple[float, list[tuple[Worker, list[Item]]]]:
    """Share items of a running chunk out to idle threads; give also when they would end, if before the chunk.

    Each goes to who would end it first. A chunk is answered as a whole: to have a part of it sooner is of no use.
    """
    able = able[: len(part)]
    parts: list[list[Item]] = [[] for _ in able]
    ready = [now + pool.trip(worker) for worker in able]
    paces = [_seconds_elsewhere(pool, chunk, 1.0, worker, end) for worker in able]
    cost, ends = 0.0, [(math.inf, 0)]
    for item in part:
        # When each would end it, as a heap; mostly items cost as much as the one before.
        if item.cost != cost:
            cost = item.cost
            ends = [(when + cost * pace, place) for place, (when, pace) in enumerate(zip(ready, paces, strict=True))]
            heapq.heapify(ends)
        soonest, place = ends[0]
        if soonest >= end:
            return math.inf, []
        parts[place].append(item)
        ready[place] = soonest
        heapq.heapreplace(ends, (soonest + cost * paces[place], place))
    until = max(when for when, part in zip(ready, parts, strict=True) if part)
    return until, [(worker, part) for worker, part in zip(able, parts, strict=True) if part]


def _seconds_elsewhere(pool: Pool, chunk: Chunk, cost: float, worker: Worker, end: float) -> float:
    """Give how long another worker would take for a part of a running chunk that is expected at `end`."""
    here, there = pool.speed(chunk.worker), pool.speed(worker)
    if here is None or there is None or chunk.start is None:
        return math.inf
    if pool.rates.uneven:
        # It is then the items that take longer than expected, and would on any worker; but no longer than any item has:
        # beyond that, it is the worker.
        cost *= max(1.0, min(pool.rates.longest, (end - chunk.start) * here / chunk.cost))
    return cost / there
