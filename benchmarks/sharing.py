"""What several clients of one cluster get of it, and what it costs.

    .venv/bin/python benchmarks/sharing.py [--repetitions N] [MEASUREMENT ...]

Measurements: "short", "equal", "lone"; all if none is named. Workers are three processes of this machine with one
thread each. For the first two, work is to sleep, for four times as long on two of them, so that they have speeds of 1,
1/4 and 1/4 whatever else this machine does; what is measured is then who gets a thread when. For the last one, it is to
compute.

- short: a short job beside a long one of another client, against the same job alone, timed in turn.
- equal: shares of 2, 3 and 4 clients that always have work, as Jain's index; and what all get done together, against
  one of them alone.
- lone: a client alone, against the same without a look at others, in turn; in processor time, which other work on this
  machine changes little.
"""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click
from _pairs import seconds, show_machine, show_ratio
from distributed import Client, get_worker

from tritoncluster.balance import balanced_map, crowd
from tritoncluster.cluster import connect

#: By the worker's name.
SPEEDS = {"0": 1.0, "1": 0.25, "2": 0.25}
#: Seconds of an item on the fastest worker; items of a long job.
ITEM, ITEMS = 0.02, 5000
#: Seconds for which shares are counted; seconds of work that each has to have done before.
WINDOW, BEFORE = 20.0, 1.5
#: A short job beside a long one takes at most so many times its own time, and so many seconds more.
TIMES, MORE = 2.3, 1.0
MEASUREMENTS = ("short", "equal", "lone")


def work(job: tuple[str, float]) -> None:
    """Do an item of somebody, and count it on its worker."""
    who, length = job
    worker = get_worker()
    time.sleep(length / SPEEDS[str(worker.name)])
    done = worker.__dict__.setdefault("items_done", Counter())
    done[who] += length


def done(client: Client) -> Counter[str]:
    """Add up what each has got done, in seconds of the fastest worker."""
    counts = client.run(lambda dask_worker: dask_worker.__dict__.get("items_done", Counter()))
    return sum(counts.values(), Counter())


@contextmanager
def endless(client: Client, who: str) -> Iterator[None]:
    """Let somebody have work all the time."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            for _ in balanced_map(work, [(who, ITEM)] * ITEMS, client, ordered=False):
                if ended.is_set():
                    break

    before = done(client)[who]
    thread = threading.Thread(target=run)
    thread.start()
    try:
        while done(client)[who] < before + BEFORE:
            time.sleep(0.1)
        yield
    finally:
        ended.set()
        thread.join()


def short_jobs(client: Client) -> dict[str, Callable[[], object]]:
    """Give what is done beside a long job."""

    def tasks(number: int, length: float) -> Callable[[], object]:
        return lambda: client.gather(client.map(work, [("short", length)] * number, pure=False))

    return {
        "balanced, 150 items of 20 ms": lambda: list(balanced_map(work, [("short", ITEM)] * 150, client)),
        "tasks of Dask, 10 of 0.2 s": tasks(10, 0.2),
        "tasks of Dask, 150 of 20 ms": tasks(150, ITEM),
        "tasks of Dask, 10 of 20 ms, one after the other": lambda: [tasks(1, ITEM)() for _ in range(10)],
    }


def measure_short(client: Client, other: Client, repetitions: int) -> None:
    """Time short jobs alone and beside a long one."""
    for name, job in short_jobs(other).items():
        job()
        found = []
        for _ in range(repetitions):
            alone = seconds(job)
            with endless(client, "long"):
                found.append((seconds(job), alone))
        aim = statistics.median(TIMES * alone + MORE for _, alone in found)
        show_ratio(f"{name}: beside a long job against alone", found, f"at most {aim:.1f} s")


def measure_equal(clients: list[Client], repetitions: int) -> None:
    """Count what clients get that always have work."""
    for number in range(2, len(clients) + 1):
        indices, ratios = [], []
        for _ in range(repetitions):
            one, together = [_got(clients[:n]) for n in (1, number)]
            shares = list(together.values())
            indices.append(sum(shares) ** 2 / len(shares) / sum(share**2 for share in shares))
            ratios.append(sum(shares) / sum(one.values()))
        for what, found, aim in (("Jain's index", indices, 0.95), ("all against one alone", ratios, 0.97)):
            print(
                f"{number} equal clients: {what} {statistics.median(found):.3f} (least {min(found):.3f}); aim {aim}",
                flush=True,
            )


def _got(clients: list[Client]) -> Counter[str]:
    names = [f"client {number}" for number in range(len(clients))]
    with ExitStack() as stack:
        for client, name in zip(clients, names, strict=True):
            stack.enter_context(endless(client, name))
        before = done(clients[0])
        time.sleep(WINDOW)
        after = done(clients[0])
    return Counter({name: after[name] - before[name] for name in names})


def compute(_item: int) -> int:
    """Compute for a millisecond."""
    return sum(range(40_000))


def measure_lone(client: Client, repetitions: int) -> None:
    """Time a job of many short items with and without looks at others, in processor time of all who take part."""

    def used() -> float:
        return time.process_time() + sum(client.run(time.process_time).values())

    def job() -> float:
        before = used()
        for _ in balanced_map(compute, range(8000), client, ordered=False):
            pass
        return used() - before

    def without() -> float:
        look = crowd.Crowd.look
        client.run(_look_each, 1e9)
        crowd.Crowd.look = _no_look
        try:
            return job()
        finally:
            crowd.Crowd.look = look
            client.run(_look_each, _look_seconds())

    job()
    without()
    found = [(job(), without()) for _ in range(repetitions)]
    show_ratio("a lone client, with looks at others against without, processor time", found, "at most 1.01")


def _look_seconds() -> float:
    from tritoncluster.balance import yielding

    return yielding.LOOK


def _look_each(interval: float) -> None:
    from tritoncluster.balance import yielding

    yielding.LOOK = interval


async def _no_look(*_args: Any) -> None:
    """Look at nobody."""


@click.command()
@click.argument("measurements", nargs=-1, type=click.Choice(MEASUREMENTS))
@click.option("--repetitions", default=3, show_default=True, type=click.IntRange(min=1))
def main(measurements: tuple[str, ...], repetitions: int) -> None:
    """Measure shares of a cluster."""
    show_machine()
    chosen = measurements or MEASUREMENTS
    with connect(workers=len(SPEEDS)) as client, ExitStack() as stack:
        others = [Client(client.scheduler.address, set_as_default=False) for _ in range(3)]
        for other in others:
            stack.callback(other.close)
        if "short" in chosen:
            measure_short(client, others[0], repetitions)
        if "equal" in chosen:
            measure_equal([client, *others], repetitions)
        if "lone" in chosen:
            measure_lone(client, repetitions)


if __name__ == "__main__":
    main()
