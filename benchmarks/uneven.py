"""Uneven workers against joblib's Dask backend, that one tuned, Ray, and the ideal.

    .venv/bin/python benchmarks/uneven.py [--work TEXT]... [--repetitions N] [--no-ray] [MEASUREMENT ...]

Measurements: "two slow", "four very slow", "two equal", "disturbed"; all if none is named. Needs an engine
(`eval "$(.ci/engine start)"`). Workers are containers with a share of a processor and one thread each, which have
imported scikit-learn before a clock runs; the client is a container too, because Python there is another than here.

In each repetition, all ways are timed in turn, and each worker alone. The ideal is the sum of the rates of the workers
alone: each is measured on a part of the work, scaled by what the fastest one needs for the part and the whole.

Where other machines' work on the same processors makes these times differ from one minute to the next, a second figure
tells more. For works of equal calls, rates while computing are taken from the very run that is judged, and from the
workers alone only the part of their time that they compute. It leaves out what a worker computes slower among others.
For works of unequal calls it is the efficiency in the run's own report, for which the ideal is to compute all of the
time.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import _rooms
import click
from _pairs import matching, show_efficiency, show_machine, show_ratio

ROOMS = {
    "two slow": [1.0, 0.25, 0.25],
    "four very slow": [1.0, 0.125, 0.125, 0.125, 0.125],
    "two equal": [1.0, 1.0],
}
#: Work -> one in how many of its calls tells a slow worker's rate; the aim for its efficiency when rates are known.
WORKS = {
    "2,000 trees": (8, 0.95),
    "200,000 paths": (8, 0.95),
    "grid, 2,000 samples": (8, 0.92),
    "grid, 8,000 samples": (24, 0.92),
}
#: A worker alone takes minutes for the whole: once a room will do.
LONG = "grid, 8,000 samples"
#: Those whose calls take equally long.
EQUAL_CALLS = ("2,000 trees", "200,000 paths")
RAY_WORKS = ("2,000 trees", "grid, 2,000 samples")
FIRST_JOB_AIM = 0.85
#: Dask's settings that suit it best here: nothing queued on the workers that another one could take, quick stealing.
TUNED = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING_INTERVAL": "20ms",
}
DISTURBED_WORK, DISTURBED_TREES = "6,000 trees", 6000
DROP = 0.1


class Bench:
    """Rooms that are there, and a client to ask them."""

    def __init__(self, shares: list[float], *, tuned: bool, ray: bool) -> None:
        self.shares = shares
        with ExitStack() as stack:
            self._stack = stack
            self._start(tuned=tuned, ray=ray)
            self._stack = stack.pop_all()

    def _start(self, *, tuned: bool, ray: bool) -> None:
        shares = self.shares
        self._stack.enter_context(_rooms.network())
        self.room = self._open(_rooms.Room("all", shares))
        self.alone = {share: self._open(_rooms.Room(f"alone-{share}", [share])) for share in sorted(set(shares))}
        self.tuned = self._open(_rooms.Room("tuned", shares, TUNED)) if tuned else None
        self.client = _rooms.dask_client()
        self._stack.callback(self.client.close)
        self.ray: _rooms.RayRoom | None = None
        if ray:
            self.ray = self._open(_rooms.RayRoom("ray", shares))
            self.ray_client = _rooms.ray_client(self.ray)
            self._stack.callback(self.ray_client.close)
        self._warm_up()

    def close(self) -> None:
        """Remove all."""
        self._stack.close()

    def ask(
        self,
        room: _rooms.Room,
        way: str,
        work: str,
        part: int = 1,
        *,
        forget: bool = False,
        at_half: Callable[[], object] | None = None,
    ) -> dict[str, Any]:
        """Let a piece of work be done."""
        with room.awake():
            answer = self._order(room, way, work, part, forget=forget, halt=at_half is not None)
            if at_half:
                at_half()
                self.client.tell("")
                answer = self.client.answer()
            return answer

    def whole_alone(self, work: str) -> dict[str, Any]:
        """Let the fastest worker do all of the work alone."""
        return self.ask(self.alone[max(self.shares)], "balanced", work)

    def parts_alone(self, work: str, part: int) -> dict[float, dict[str, Any]]:
        """Let a worker of each share do a part of the work alone."""
        return {share: self.ask(room, "balanced", work, part) for share, room in self.alone.items()}

    def rates(self, parts: dict[float, dict[str, Any]], parts_in_whole: float) -> list[float]:
        """Give each worker's rate alone: parts of the whole work that it does in a second."""
        return [1 / parts[share]["seconds"] / parts_in_whole for share in self.shares]

    def parts_in_whole(self, whole: dict[str, Any], parts: dict[float, dict[str, Any]]) -> float:
        """Give how many times as long as a part the whole work takes the fastest worker alone."""
        return float(whole["seconds"] / parts[max(self.shares)]["seconds"])

    def by_own_rates(
        self, ours: dict[str, Any], whole: dict[str, Any], parts: dict[float, dict[str, Any]]
    ) -> tuple[float, float]:
        """Give the ideal time by the workers' rates while they computed in our run, and our time."""
        (run,) = ours["runs"]
        computing = {share: _computing(answer) for share, answer in parts.items()}
        scale = _computing(whole) / computing[max(self.shares)]
        possible = sum(
            # One that got nothing has no rate in our run.
            (worker["rate"] or parts[share]["runs"][0]["workers"][0]["rate"]) * computing[share] * scale
            for worker, share in zip(run["workers"], self.shares, strict=True)
        )
        return run["calls"] / possible, ours["seconds"]

    def _order(self, room: _rooms.Room, way: str, work: str, part: int, **how: bool) -> dict[str, Any]:
        client = self.ray_client if way == "ray" else self.client
        return client.ask(
            way=way, address=room.address, workers=len(room.shares), work=work, part=part,
            **{"forget": False, "halt": False, **how},
        )  # fmt: skip

    def _open(self, room: Any) -> Any:
        return self._stack.enter_context(room)

    def _warm_up(self) -> None:
        """Let workers come and import, then give each its share and stop it."""
        rooms = [room for room in (self.room, *self.alone.values(), self.tuned, self.ray) if room]
        for room in rooms:
            self._order(room, "ray" if room is self.ray else "balanced", "2,000 trees", 8)
        for room in rooms:
            room.limit()
            room.pause()


def _computing(alone: dict[str, Any]) -> float:
    """Give the part of a lone worker's time that it computes."""
    (run,) = alone["runs"]
    (worker,) = run["workers"]
    return float(worker["busy_seconds"] / alone["seconds"])


def ways(bench: Bench, work: str) -> dict[str, Callable[[], dict[str, Any]]]:
    """Give all ways to do a work."""
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "ours, first job": partial(bench.ask, bench.room, "balanced", work, forget=True),
        "ours": partial(bench.ask, bench.room, "balanced", work),
        "joblib's dask": partial(bench.ask, bench.room, "dask", work),
    }
    if bench.tuned:
        found["dask, tuned"] = partial(bench.ask, bench.tuned, "dask", work)
    if bench.ray and work in RAY_WORKS:
        bench.ask(bench.ray, "ray", work)
        found["Ray"] = partial(bench.ask, bench.ray, "ray", work)
    return found


def measure(bench: Bench, title: str, work: str, repetitions: int) -> None:
    """Time all ways on a room, in turn."""
    part, aim = WORKS[work]
    even = len(set(bench.shares)) == 1
    known = 0.0
    if work == LONG and not even:
        known = bench.parts_in_whole(bench.whole_alone(work), bench.parts_alone(work, part))
    times: dict[str, list[float]] = {}
    ideals: list[float] = []
    by_own_rates: list[tuple[float, float]] = []
    reported: list[tuple[float, float]] = []
    to_try = ways(bench, work)
    for _ in range(repetitions):
        for name, way in to_try.items():
            answer = way()
            times.setdefault(name, []).append(answer["seconds"])
            # Close to ours: what else this machine does changes from minute to minute.
            if name == "ours" and not even:
                parts = bench.parts_alone(work, part)
                whole = None if known else bench.whole_alone(work)
                ideals.append(1 / sum(bench.rates(parts, bench.parts_in_whole(whole, parts) if whole else known)))
                if work in EQUAL_CALLS and whole:
                    by_own_rates.append(bench.by_own_rates(answer, whole, parts))
                else:
                    reported += [(run["efficiency"], 1.0) for run in answer["runs"]]
    show(f"{title}, {work}", times, ideals, aim)
    if by_own_rates:
        show_efficiency(f"{title}, {work}, ours, by the rates of the run itself", by_own_rates, aim)
    if reported:
        show_efficiency(f"{title}, {work}, ours, by the run's own report", reported, aim)


def show(title: str, times: dict[str, list[float]], ideals: list[float], aim: float) -> None:
    """Print ours against all other ways, and, where workers are uneven, each against the ideal."""
    for name in [name for name in times if not name.startswith("ours")]:
        pairs = list(zip(times["ours"], times[name], strict=True))
        show_ratio(f"{title}: ours against {name}", pairs, "none" if ideals else "at most 1.05")
    aims = {"ours": aim, "ours, first job": FIRST_JOB_AIM}
    for name, found in times.items():
        if ideals:
            show_efficiency(f"{title}, {name}", list(zip(ideals, found, strict=True)), aims.get(name))


def disturb(bench: Bench, title: str, rate: float, at_half: Callable[[], object]) -> None:
    """Run until half is done, disturb, and print how long the rest took; `rate` is that of all from then on."""
    answer = bench.ask(bench.room, "balanced", DISTURBED_WORK, at_half=at_half)
    possible = answer["left"] / rate
    cost = (answer["rest"] - possible) * rate
    lost = sum(worker["lost"] for run in answer["runs"] for worker in run["workers"])
    print(
        f"{title}: the rest took {answer['rest']:.2f} s, {answer['rest'] / possible:.2f} times the ideal; "
        f"{cost:.0f} trees more than were left, {lost} were lost with a worker",
        flush=True,
    )


def disturbances(bench: Bench, repetitions: int) -> None:
    """Slow the fastest worker down in the middle of a job, and kill it."""
    fast = bench.room.workers[0]
    for _ in range(repetitions):
        parts, whole = bench.parts_alone(DISTURBED_WORK, 24), bench.whole_alone(DISTURBED_WORK)
        alone = bench.rates(parts, bench.parts_in_whole(whole, parts))
        first, *others = (DISTURBED_TREES * rate for rate in alone)
        bench.ask(bench.room, "balanced", DISTURBED_WORK)
        disturb(
            bench,
            f"the first drops to {DROP:g} in the middle (aim at most 1.10)",
            DROP * first + sum(others),
            lambda: _rooms.docker("update", "--cpus", str(DROP), fast),
        )
        bench.room.limit()
        disturb(
            bench,
            "the first is killed in the middle (aim: no more than what was lost)",
            sum(others),
            lambda: _rooms.docker("kill", fast),
        )
        bench.room.restart(fast)


@click.command()
@click.argument("measurements", nargs=-1, type=click.Choice([*ROOMS, "disturbed"]))
@click.option("--work", multiple=True, help="Only works with this text in their names; may be given more than once.")
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--ray/--no-ray", default=True, help="Whether to take Ray in, in the first room.")
def main(measurements: tuple[str, ...], work: tuple[str, ...], repetitions: int, *, ray: bool) -> None:
    """Measure uneven workers."""
    works = matching(WORKS, work)
    _rooms.check_engine()
    show_machine()
    _rooms.build(_rooms.HERE.parent, _rooms.IMAGE)
    chosen = measurements or (*ROOMS, "disturbed")
    if ray and "two slow" in chosen:
        _rooms.build_with_ray()
    for title in chosen:
        even = title == "two equal"
        shares = ROOMS.get(title, ROOMS["two slow"])
        bench = Bench(shares, tuned=title in ROOMS and not even, ray=ray and title == "two slow")
        try:
            if title == "disturbed":
                disturbances(bench, repetitions)
            for name in works if title in ROOMS else ():
                measure(bench, title, name, repetitions)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
