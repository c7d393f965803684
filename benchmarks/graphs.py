"""Graphs on workers of unlike speed: Dask's placement, that one tuned, ours, and the least possible time.

    .venv/bin/python benchmarks/graphs.py [--real] [--work TEXT]... [--repetitions N] [--report FILE] [ROOM ...]

Figures are parts of the least possible time: summed work by summed speed, or the longest chain at the fastest worker's
speed if that is more. What would be "with foresight" is what a list scheduler reaches of it that knows all lengths and
speeds, and for which nothing but tasks takes time. The scheduler is Dask's own, with workers and a clock that are
simulated, so that figures say where tasks were placed, and nothing of what else this machine did. With --real, workers
are processes whose tasks sleep as long as their work would take a worker of that speed; all ways are timed in turn.

The room "1,000 workers" shows what a task costs the scheduler, in processor time.
"""

import random
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from _foresight import finish_with_foresight
from _graphs import WORKS, Graph, chains, equal, tree
from _page import Compared, write
from _pairs import matching, seconds, show_machine
from _simulated import simulate
from _sleepers import sleepers

from tritoncluster.record import Span, SpanRecorder, Worker

#: Speed and threads of each worker.
ROOMS: dict[str, list[tuple[float, int]]] = {
    "1 + 4 x 1/8": [(1.0, 1), *[(0.125, 1)] * 4],
    "1 + 2 x 1/4": [(1.0, 1), *[(0.25, 1)] * 2],
    "the poster's": [*[(0.25, 4)] * 4, (0.9, 7), (1.0, 7)],
    "4 equal": [(1.0, 1)] * 4,
}
MANY = "1,000 workers"
#: From this summed speed on, works are larger.
LARGE = 8.0
TUNED = {"distributed.scheduler.worker-saturation": 1.0, "distributed.scheduler.work-stealing-interval": "100ms"}
#: Way -> the scheduler's configuration, and whether it loads our placement.
WAYS: dict[str, tuple[dict[str, object], bool]] = {
    "dask": ({}, False),
    "dask, tuned": (TUNED, False),
    "ours": ({}, True),
}
#: A run of a graph: its seconds, and what workers did.
Run = tuple[float, list[Span]]


def simulated(room: str, graphs: list[Graph]) -> dict[str, list[Run]]:
    """Run graphs in each way, one after the other on one scheduler."""
    return {way: simulate(ROOMS[room], graphs, placed=ours, config=config).runs for way, (config, ours) in WAYS.items()}


def slept(room: str, graphs: list[Graph]) -> dict[str, list[Run]]:
    """Run graphs in each way, all ways in turn, on workers that sleep."""
    found: dict[str, list[Run]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        clients = {
            way: stack.enter_context(sleepers(ROOMS[room], config, placed=ours)) for way, (config, ours) in WAYS.items()
        }
        for graph in graphs:
            for way, client in clients.items():
                recorder = SpanRecorder(client)
                taken = seconds(lambda graph=graph, client=client: graph.compute(client))
                found[way].append((taken, recorder.spans()))
    return found


def measure(room: str, work: str, repetitions: int, *, real: bool) -> Compared:
    """Print each way's part of the least possible time."""
    speeds = [speed for speed, threads in ROOMS[room] for _ in range(threads)]
    make = WORKS[work][sum(speeds) >= LARGE]
    graphs = [make(seed) for seed in range(repetitions)]
    bounds = [graph.bound(speeds) for graph in graphs]
    found = (slept if real else simulated)(room, graphs)
    possible = bounds[-1] / finish_with_foresight(graphs[-1], speeds)
    parts = [*_parts(bounds, found), f"of the last, {possible:.2f} with foresight"]
    print(f"{room}, {work}, {len(graphs[0].tasks)} tasks: {'; '.join(parts)}", flush=True)
    workers = [Worker(f"worker-{place}", "", threads, 0) for place, (_, threads) in enumerate(ROOMS[room])]
    return Compared(room, work, bounds[-1], workers, {way: runs[-1] for way, runs in found.items()})


def _parts(bounds: list[float], found: dict[str, list[Run]]) -> Iterator[str]:
    for way, runs in found.items():
        parts = sorted(bound / taken for bound, (taken, _) in zip(bounds, runs, strict=True))
        yield f"{way} {statistics.median(parts):.2f} ({parts[0]:.2f} to {parts[-1]:.2f})"


def many() -> None:
    """Print what a task costs the scheduler among a thousand workers, and how good placement is there."""
    stream = random.Random(1)  # noqa: S311 - no secrets
    room = [(20 ** stream.uniform(-1, 0), 1) for _ in range(1000)]
    for name, graph in {"equal tasks": equal(3000, 0.5), "chains": chains(1000), "tree": tree(1024)}.items():
        bound = graph.bound([speed for speed, _ in room])
        costs = {}
        for way in ("dask", "ours"):
            config, ours = WAYS[way]
            done = simulate(room, [graph, graph], placed=ours, config=config)
            costs[way] = done.microseconds, bound / done.runs[-1][0]
        text = "; ".join(f"{way} {cost:.0f} µs a task, {part:.2f} of the bound" for way, (cost, part) in costs.items())
        print(f"{MANY}, {name}: {text}; ratio of costs {costs['ours'][0] / costs['dask'][0]:.2f}, aim 1.3", flush=True)


@click.command()
@click.argument("rooms", nargs=-1, type=click.Choice([*ROOMS, MANY]))
@click.option("--work", multiple=True, help="Only works with this text in their names; may be given more than once.")
@click.option("--repetitions", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--real", is_flag=True, help="Workers are processes, and tasks sleep.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with timelines.")
def main(rooms: tuple[str, ...], work: tuple[str, ...], repetitions: int, *, real: bool, report: Path | None) -> None:
    """Measure graphs on workers of unlike speed."""
    works = matching(WORKS, work)
    if report and not report.parent.is_dir():
        raise click.BadParameter(
            f"there is no folder {report.parent}; write a path in one that is", param_hint="--report"
        )
    show_machine()
    chosen = rooms or (*ROOMS, MANY)
    compared = [measure(room, name, repetitions, real=real) for room in chosen if room != MANY for name in works]
    if MANY in chosen:
        many()
    if report and compared:
        how = "Workers are processes whose tasks sleep." if real else "Workers and clock are simulated."
        write(compared, how, report)
        print(f"Report: {report}")


if __name__ == "__main__":
    main()
