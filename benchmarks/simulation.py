"""The queue's decisions on clusters that are not here: the time to the end against the least possible.

The same code decides as on a cluster; workers and clock are simulated (tritoncluster.balance.simulation).
"""

import random
import statistics

from _pairs import show_machine

from tritoncluster.balance.simulation import SimulatedWorker, Simulation

#: The poster's trees and the time of one machine alone.
TREES, SERIAL_SECONDS = 8000, 15 * 60 + 1
#: The poster's machines: threads, and all machines' wall times when one more of them took part.
PI_THREADS, LAPTOP_THREADS, DESKTOP_THREADS = 4, 7, 7
WALL = {"1 Pi + laptop": 237, "2 Pi + laptop": 181, "4 Pi + laptop": 134, "with desktop": 124}
REPETITIONS = 3


def posters_room() -> list[SimulatedWorker]:
    """Give the poster's machines with speeds (trees a second) that its wall times imply.

    A cluster's rate is 8,000 trees over its wall time; a machine's is what it added. The poster's own overhead is in
    these figures, so they are speeds of machines as it used them.
    """
    rate = {name: TREES / seconds for name, seconds in WALL.items()}
    pi = rate["2 Pi + laptop"] - rate["1 Pi + laptop"]
    laptop = rate["1 Pi + laptop"] - pi
    desktop = rate["with desktop"] - rate["4 Pi + laptop"]
    return [
        *(SimulatedWorker(pi / PI_THREADS, PI_THREADS) for _ in range(4)),
        SimulatedWorker(laptop / LAPTOP_THREADS, LAPTOP_THREADS),
        SimulatedWorker(desktop / DESKTOP_THREADS, DESKTOP_THREADS),
    ]


def spread(number: int, seed: int) -> list[SimulatedWorker]:
    """Give single-threaded workers whose speeds are spread over a factor of 20, evenly on a logarithmic scale."""
    stream = random.Random(seed)  # noqa: S311 - no secrets
    return [SimulatedWorker(20 ** stream.uniform(-1, 0)) for _ in range(number)]


def show(title: str, room: list[SimulatedWorker], costs: list[float], *, earlier: bool) -> None:
    """Run and print."""
    ratios, milliseconds, chunks, worst = [], [], [], []
    for _ in range(REPETITIONS):
        result = Simulation(room, costs, earlier=earlier, noise=0.1).run()
        ratios.append(result.seconds / result.bound)
        milliseconds.append(result.deciding / result.chunks * 1000)
        chunks.append(result.chunks / len(room))
        worst.append(max(result.decisions) * 1000)
    known = "rates known" if earlier else "first job"
    print(
        f"{title}, {known}: {result.seconds:.1f} s, {statistics.median(ratios):.3f} times the bound of "
        f"{result.bound:.1f} s (aim 1.03); {statistics.median(chunks):.0f} chunks a worker, "
        f"{statistics.median(milliseconds):.3f} ms to decide on one (aim 0.1), {statistics.median(worst):.1f} ms for "
        "the longest decision (aim 20)",
        flush=True,
    )


def show_change(title: str, aim: str, rate: float, **change: float) -> None:
    """Print what it costs when something happens to the fastest of three in the middle; `rate` is all workers' then."""
    middle, item = 30.0, 0.005
    room = [SimulatedWorker(1.0, **change), SimulatedWorker(0.25), SimulatedWorker(0.25)]
    result = Simulation(room, [item] * int(60 * 1.5 / item), earlier=True, noise=0.1).run()
    ratio = (result.seconds - middle) / (result.bound - middle)
    more = (result.seconds - result.bound) * rate / item
    print(
        f"1.0 + 0.25 + 0.25, {title}: from there on {ratio:.3f} times the ideal, {more:.0f} items more than were left, "
        f"{result.lost} were lost; aim {aim}",
        flush=True,
    )


if __name__ == "__main__":
    show_machine()
    show_change("the first drops to a tenth in the middle", "1.10 times", 0.6, changes=30.0, factor=0.1)
    show_change("the first is killed in the middle", "no more than were lost", 0.5, dies=30.0)
    show_change("the first hangs in the middle", "no more than of a killed one", 0.5, hangs=30.0)
    for earlier in (True, False):
        show("the poster's room, 8,000 trees", posters_room(), [1.0] * TREES, earlier=earlier)
        show("100 workers, 100,000 items", spread(100, 1), [0.05] * 100_000, earlier=earlier)
        show("1,000 workers, 200,000 items", spread(1000, 1), [0.1] * 200_000, earlier=earlier)
        # Of long items a chunk has one, and the last one takes the slowest many seconds.
        for cost in (0.1, 1.0, 10.0):
            show(f"1,000 workers, 100,000 items of {cost:g}", spread(1000, 1), [cost] * 100_000, earlier=earlier)
