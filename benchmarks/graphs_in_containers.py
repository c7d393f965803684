"""Graphs whose tasks compute, on containers with a share of a processor each: our placement against Dask's own.

    .venv/bin/python benchmarks/graphs_in_containers.py [--work TEXT]... [--repetitions N] [ROOM ...]

What benchmarks/graphs.py measures with tasks that sleep, tried where a worker is slow because it computes slowly, and
what tasks leave is sent from one to another. Needs a Docker engine (`eval "$(.ci/engine start)"`). All ways are timed
in turn, and each kind of worker alone; the ideal is summed work by summed speed of workers alone, or the longest chain
at the fastest one's speed if that is more. Graphs come to a scheduler that has seen one of their kind.
"""

from contextlib import ExitStack

import _rooms
import click
from _graphs import ALONE, WORKS
from _pairs import matching, show_efficiency, show_machine, show_ratio

#: Share of a processor of each worker; they have two together.
ROOMS = {"1 + 4 x 1/8": [1.0, *[0.125] * 4], "1 + 2 x 1/4": [1.0, *[0.25] * 2]}
WAYS = {
    "dask": {},
    "dask, tuned": {
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
        "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING_INTERVAL": "100ms",
    },
    "ours": {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": '["tritoncluster.placement"]'},
}


class Bench:
    """A room for each way, one for each kind of worker alone, and a client for all."""

    def __init__(self, shares: list[float], stack: ExitStack) -> None:
        self.shares = shares
        stack.enter_context(_rooms.network())
        # Where workers find the tasks.
        imports = {"PYTHONPATH": "/benchmarks"}
        self.ways = {
            way: stack.enter_context(_rooms.Room(f"way-{number}", shares, settings | imports))
            for number, (way, settings) in enumerate(WAYS.items())
        }
        self.alone = {
            share: stack.enter_context(_rooms.Room(f"alone-{share}", [share], imports)) for share in sorted(set(shares))
        }
        self.client = _rooms.dask_client()
        stack.callback(self.client.close)
        rooms = [*self.ways.values(), *self.alone.values()]
        for room in rooms:
            self._ask(room, "equal tasks", 0)
        for room in rooms:
            room.limit()
            room.pause()

    def seconds(self, room: _rooms.Room, work: str, seed: int) -> float:
        """Time a graph in a room, all others being stopped in their tracks."""
        with room.awake():
            return self._ask(room, work, seed)

    def speeds(self) -> list[float]:
        """Give each worker's speed alone, as seconds of work in a second."""
        alone = {share: ALONE.seconds / self.seconds(room, "", 0) for share, room in self.alone.items()}
        return [alone[share] for share in self.shares]

    def _ask(self, room: _rooms.Room, work: str, seed: int) -> float:
        order = {"way": "graph", "address": room.address, "workers": len(room.shares), "work": work, "seed": seed}
        return float(self.client.ask(**order, forget=False)["seconds"])


def measure(bench: Bench, title: str, work: str, repetitions: int) -> None:
    """Print each way's part of the least possible time, and ours against the others."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for room in bench.ways.values():
        bench.seconds(room, work, 0)
    for seed in range(repetitions):
        bound = WORKS[work][0](seed).bound(bench.speeds())
        for way, room in bench.ways.items():
            found[way].append((bound, bench.seconds(room, work, seed)))
    for way, times in found.items():
        show_efficiency(f"{title}, {work}, {way}", times, 0.93 if way == "ours" else None)
    for way in [way for way in WAYS if way != "ours"]:
        pairs = [(ours, theirs) for (_, ours), (_, theirs) in zip(found["ours"], found[way], strict=True)]
        show_ratio(f"{title}, {work}: ours against {way}", pairs, "at most 1.02")


@click.command()
@click.argument("rooms", nargs=-1, type=click.Choice([*ROOMS]))
@click.option("--work", multiple=True, help="Only works with this text in their names; may be given more than once.")
@click.option("--repetitions", default=3, show_default=True, type=click.IntRange(min=1))
def main(rooms: tuple[str, ...], work: tuple[str, ...], repetitions: int) -> None:
    """Measure graphs on containers with a share of a processor each."""
    works = matching(WORKS, work)
    _rooms.check_engine()
    show_machine()
    _rooms.build(_rooms.HERE.parent, _rooms.IMAGE)
    for title in rooms or ROOMS:
        with ExitStack() as stack:
            bench = Bench(ROOMS[title], stack)
            for name in works:
                measure(bench, title, name, repetitions)


if __name__ == "__main__":
    main()
