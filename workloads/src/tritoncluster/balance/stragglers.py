"""Which chunks take so long that something may be wrong with their workers."""

from tritoncluster.balance.model import Chunk, ChunkState, Worker
from tritoncluster.balance.pool import Pool

#: Times as long as expected before a chunk is a straggler, whatever else is heard of its worker.
STRAGGLES = 10.0
#: Times as long as expected, and seconds later than expected, from which on a worker is worth a question, if others
#: wait for it.
LATE, LATE_SECONDS = 1.5, 1.0
#: Seconds after which that is so where nothing is known of any worker's speed.
LATE_UNKNOWN = 5.0


def straggling(pool: Pool, worker: Worker, now: float, patience: float) -> list[Chunk]:
    """List a worker's chunks whose answers should no longer be expected."""
    # They begin in the order in which it has them: when the first is not late, none is.
    first = worker.chunks[0].start if worker.chunks and worker.trusted else None
    if first is None or now - first <= patience or not (speed := pool.speed(worker)):
        return []
    return [
        chunk
        for chunk in worker.running
        if chunk.state is ChunkState.RUNNING
        and chunk.start is not None
        and now - chunk.start > max(patience, STRAGGLES * chunk.cost / speed)
    ]


def doubtful(pool: Pool, now: float) -> list[Worker]:
    """List workers that should have answered, while others have nothing to do and could repeat what they have."""
    idle = sum(worker.idle for worker in pool.idle.values())
    return [
        worker
        for worker in pool.workers.values()
        if worker.trusted and idle > worker.idle and any(_holds_up(pool, chunk, now) for chunk in worker.running)
    ]


def _holds_up(pool: Pool, chunk: Chunk, now: float) -> bool:
    """Tell whether an item of a late chunk is with nobody who is in time."""
    return _is_late(pool, chunk, now) and any(
        not item.done and all(_is_late(pool, each, now) for each in item.holders if each.counted_upon)
        for item in chunk.items
    )


def _is_late(pool: Pool, chunk: Chunk, now: float) -> bool:
    if chunk.state is not ChunkState.RUNNING or chunk.start is None:
        return False
    speed = pool.speed(chunk.worker)
    if speed is None:
        return now - chunk.start >= LATE_UNKNOWN
    expected = chunk.cost / speed
    return now - chunk.start >= max(LATE * expected, expected + LATE_SECONDS)
