"""How many of the items that wait a worker gets in one piece."""

import math
from collections.abc import Mapping

from tritoncluster.balance.crew import Crew, Worker
from tritoncluster.balance.items import Items

#: A piece is this part of what a thread is expected still to do: "tens of pieces a worker" follows from it.
SHARE = 1 / 8
#: Seconds of work below which a piece is not cut but to end together, on the fastest worker: each costs it some
#: milliseconds beside, and another one as many times more as it is slower, so its pieces are longer. And the seconds
#: above which none is: results should come, and little be lost with a worker.
SHORTEST, LONGEST = 0.2, 5.0
#: A piece is at most so many times as long as all that its worker has done in this run: the first items of many tell
#: little of the others, and the first moments little of a worker that is stopped and started.
GROWTH = 2.0
#: Items in a piece that were lost with a worker once; each time that they are, a quarter of it.
SUSPECTS = 16


def cut(
    crew: Crew, items: Items, losses: Mapping[int, int], worker: Worker, power: float, room: float, *, ahead: bool
) -> list[int]:
    """Take items off those that wait, for a worker; none when others would have done them before its answer comes.

    Parameters
    ----------
    crew, items
        All workers; all items.
    losses
        Item -> how often a worker was lost that was computing it.
    worker
        For whom.
    power
        Cost a second of all workers.
    room
        Seconds from the start of this piece to when all could be done.
    ahead
        Whether the worker has enough to run.
    """
    speed = crew.speed(worker)
    first = items.first
    if first is None:
        return []
    if speed is None:
        return [items.take()]
    if not ahead and not crew.helps(worker, room):
        return []
    # Nobody else should wait for this one's answer.
    room -= crew.delay(worker)
    # An item that ends late here is worth it as far as it would take all others as long.
    fits = 1 - speed / power
    if ahead and items.cost[first] * fits / speed > room:
        return []
    cost = speed * min(_seconds(crew, worker, speed, items.waiting_cost / power), room)
    taken = [items.take()]
    cost -= items.cost[first]
    # It may be what takes workers down: then but few of the same suspicion go with it, and in the end none.
    suspicion = losses.get(first, 0)
    most = max(1, SUSPECTS >> 2 * (suspicion - 1)) if suspicion else math.inf
    while (item := items.first) is not None and len(taken) < most and items.cost[item] * fits <= cost:
        if losses.get(item, 0) != suspicion:
            break
        cost -= items.cost[item]
        taken.append(items.take())
    return taken


def _seconds(crew: Crew, worker: Worker, speed: float, left: float) -> float:
    """Give the seconds that a piece should take, when what waits takes all workers the seconds `left`."""
    if crew.rates.uneven:
        return SHORTEST
    least = SHORTEST * (crew.fastest() or speed) / speed
    known = max(SHORTEST, GROWTH * crew.rates.measured(worker.name))
    return min(LONGEST, known, max(least, SHARE * left))
