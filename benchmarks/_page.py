"""The page of benchmarks/graphs.py: each graph with Dask's placement and with ours, what ran where side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tritoncluster.record import Span, Worker
from tritoncluster.report import text, timeline
from tritoncluster.report.content import Number, Page, Section
from tritoncluster.report.render import render


@dataclass(frozen=True)
class Compared:
    """A graph in a room: the least possible seconds, and for each way its seconds and what workers did."""

    room: str
    work: str
    bound: float
    workers: Sequence[Worker]
    ways: dict[str, tuple[float, Sequence[Span]]]

    @property
    def verdict(self) -> str:
        """One sentence on what placement by speed brought."""
        (before, _), (after, _) = self.ways["dask"], self.ways["ours"]
        change = before / after
        how = (
            f"{change:.2f} times as fast"
            if change >= 1.005
            else f"{1 / change:.2f} times as slow"
            if change < 0.995
            else "as fast"
        )
        return (
            f"With placement by speed, it is {how}: {text.seconds(after)} instead of {text.seconds(before)}; "
            f"{text.seconds(self.bound)} are the least that is possible."
        )


def write(compared: Sequence[Compared], how: str, path: Path) -> None:
    """Write the page."""
    sections = [
        Section(
            f"graph-{place}",
            f"{each.room}: {each.work}",
            each.verdict,
            blocks=[timeline.side_by_side([(name, *each.ways[way]) for way, name in NAMES.items()], each.workers)],
        )
        for place, each in enumerate(compared)
    ]
    gains = sorted(each.ways["dask"][0] / each.ways["ours"][0] for each in compared)
    numbers = [
        Number(f"{gains[len(gains) // 2]:.2f}×", "as fast with placement by speed, as a median"),
        Number(f"{gains[0]:.2f}×", "where it brings least"),
        Number(f"{gains[-1]:.2f}×", "where it brings most"),
    ]
    page = Page(
        "Graphs on workers of unlike speed", [how], "Finished", finished=True, numbers=numbers, sections=sections
    )
    render(page, path)


NAMES = {"dask": "Dask's placement", "ours": "placement by speed"}
