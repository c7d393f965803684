"""How many of the items that wait a worker gets in one chunk."""

from tritoncluster.balance.items import Items
from tritoncluster.balance.model import Item, Worker
from tritoncluster.balance.pool import Pool

#: A chunk is this part of what a thread is expected still to do: "tens of chunks a worker" follows from it. With a
#: quarter, a worker that drops to a tenth of its speed in the middle cost the rest of the run 22 % (benchmarks).
SHARE = 1 / 8
#: Seconds of work below which a chunk is not cut but to end together, on the fastest worker: each costs it some
#: milliseconds beside, and another one as many times more as it is slower, so its chunks are longer. And the seconds
#: above which none is: results should come, and little be lost with a worker.
SHORTEST, LONGEST = 0.2, 5.0
#: To make, send and take in a chunk takes the client 1.4 ms of its one event loop: it is good for 700 a second. So that
#: it keeps time for others, a chunk is as many times this long as there are threads: 0.2 s with 100, 2 s with 1,000.
#: With chunks of the longest kind, one client feeds 2,500 threads.
CLIENT_SECONDS = 0.002
#: Items above which no chunk has more: to pickle them, and to find who else could do some, stops all other decisions.
LARGEST = 2000
#: A chunk is at most so many times as long as all that its worker has done in this run: the first items of many tell
#: little of the others, and the first moments little of a worker that is stopped and started.
GROWTH = 2.0
#: Items in a chunk that were lost with a worker once; each time that they are, a quarter of it. One by one, what a
#: killed worker had would travel alone; all together, they would take the next worker down as a whole.
SUSPECTS = 16


def take_chunk(pool: Pool, items: Items, worker: Worker, room: float, *, ahead: bool) -> list[Item]:
    """Take items off those that wait, for a worker; none when others would have done them before its answer comes.

    Parameters
    ----------
    pool, items
        All workers; all items.
    worker
        For whom.
    room
        Seconds from the start of this chunk to when all could be done.
    ahead
        Whether the worker has enough to run.
    """
    speed = pool.speed(worker)
    first = items.first
    if first is None:
        return []
    if speed is None:
        return [items.take()]
    if not ahead and not pool.helps(worker, room):
        return []
    # The answer of a slow worker takes longer than the others': it is computed earlier by as much. The way there, which
    # is half of it, costs nothing where it has enough to run.
    room -= pool.delay(worker) / 2 if ahead else pool.delay(worker)
    # With cost c, speed s and the power P of all: here, an item takes c / s, and spares all others together c / P. Up
    # to the difference, c / s (1 - s / P), it must fit into the room; for the rest, its end here may be late.
    fits = 1 - speed / (pool.power or speed)
    if ahead and first.cost * fits / speed > room:
        return []
    cost = speed * min(_seconds(pool, worker, speed, items.waiting_cost / (pool.power or speed)), room)
    taken = [items.take()]
    cost -= first.cost
    # It may be what takes workers down: then but few of the same suspicion go with it, and in the end none.
    suspicion = first.losses
    most = max(1, SUSPECTS >> 2 * (suspicion - 1)) if suspicion else LARGEST
    while (item := items.first) is not None and len(taken) < most and item.cost * fits <= cost:
        if item.losses != suspicion:
            break
        cost -= item.cost
        taken.append(items.take())
    return taken


def _seconds(pool: Pool, worker: Worker, speed: float, left: float) -> float:
    """Give the seconds that a chunk should take, when what waits takes all workers the seconds `left`."""
    fed = CLIENT_SECONDS * pool.threads
    if pool.rates.uneven:
        return max(SHORTEST, fed)
    least = max(SHORTEST * (pool.fastest() or speed) / speed, fed)
    known = max(SHORTEST, GROWTH * pool.rates.measured(worker.name))
    return min(LONGEST, known, max(least, SHARE * left))
