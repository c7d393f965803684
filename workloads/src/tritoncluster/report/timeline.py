"""What ran on which worker, and how busy each was."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import NumeralTickFormatter

from tritoncluster.record import Span, Worker
from tritoncluster.report import style, text
from tritoncluster.report.content import Block, Chart, Panel, Paragraph
from tritoncluster.report.lanes import Bar, bars, busy_shares, lane_counts

if TYPE_CHECKING:
    from bokeh.plotting import figure

    from tritoncluster.record import Record

MIN_HEIGHT, MAX_HEIGHT, LANE_HEIGHT, LABEL_HEIGHT, AROUND = 130, 660, 30, 15, 60
MOVING = style.VERMILLION
#: Colours of kinds of tasks, those that took most time first; all further kinds share one.
COLOURS, OTHERS = [colour for colour in style.SERIES if colour != MOVING], style.MUTED


def block(record: "Record") -> Block:
    """Draw the timeline of a run, and the busy share of each worker beside it."""
    if not record.spans:
        return Paragraph("The scheduler could not be asked what ran where, so there is no timeline.", "Timeline")
    workers = _everyone(record.workers, record.spans)
    drawn = bars(record.spans)
    shares = busy_shares(record.spans, workers, record.seconds)
    colours = _colours(shares)
    threads = sum(worker.threads for worker in workers)
    busy = sum(sum(shares[worker.name].values()) * worker.threads for worker in workers) / threads
    legend = _legend(colours)
    if any(bar.moving for bar in drawn):
        legend.append(("moving data (low bars)", MOVING))
    note = ""
    if len(drawn) < len(record.spans):
        note = (
            f"{len(record.spans):,} steps are drawn as {len(drawn):,} bars: neighbours that look like one are joined."
        )
    left_out = len(record.spans) - sum(bar.spans for bar in drawn)
    if left_out:
        note += (
            f" {text.many(left_out, 'step')} on the threads that did least {'is' if left_out == 1 else 'are'} left out."
        )
    height = _height(sum(lane_counts(drawn, workers)))
    who = "The worker" if len(workers) == 1 else f"The {len(workers)} workers"
    return Chart(
        f"{who} computed for {busy:.0%} of the {text.seconds(record.seconds)}",
        [
            Panel(_gantt(record.seconds, drawn, workers, colours, height), "What ran when"),
            Panel(_busy(shares, workers, colours, height, drawn), "Share of its time that each worker computed"),
        ],
        legend=legend,
        note=note,
        wide=True,
        layout="timeline",
    )


def side_by_side(ways: Sequence[tuple[str, float, Sequence[Span]]], at_start: Sequence[Worker]) -> Chart:
    """Draw the timelines of the same work in several ways, on one scale.

    Parameters
    ----------
    ways
        For each its name, its seconds, and what workers did.
    at_start
        The cluster's workers.
    """
    all_spans = [span for _name, _seconds, spans in ways for span in spans]
    workers = _everyone(at_start, all_spans)
    threads = sum(worker.threads for worker in workers)
    longest = max(seconds for _name, seconds, _spans in ways)
    colours = _colours(busy_shares(all_spans, workers, longest))
    panels, sentences = [], []
    for name, seconds, spans in ways:
        drawn = bars(spans)
        shares = busy_shares(spans, workers, seconds)
        busy = sum(sum(shares[worker.name].values()) * worker.threads for worker in workers) / threads
        height = _height(sum(lane_counts(drawn, workers)))
        panels.append(Panel(_gantt(longest, drawn, workers, colours, height), f"{name}, {text.seconds(seconds)}"))
        sentences.append(f"{busy:.0%} of {text.seconds(seconds)} with {name}")
    return Chart(
        f"Workers computed for {text.listed(sentences)}",
        panels,
        legend=[*_legend(colours), ("moving data (low bars)", MOVING)],
        note="Both on one scale. A worker that has nothing left to do is blank.",
        wide=True,
    )


def _height(lanes: int) -> int:
    return int(np.clip(AROUND + LANE_HEIGHT * lanes, MIN_HEIGHT, MAX_HEIGHT))


def _everyone(at_start: Sequence[Worker], spans: Sequence[Span]) -> list[Worker]:
    """Add to the workers at the start those that joined later, of which only the name is known."""
    known = {worker.name for worker in at_start}
    threads: dict[str, set[int]] = defaultdict(set)
    for span in spans:
        threads[span.worker].add(span.thread)
    late = [Worker(name, "", len(threads[name]), 0) for name in sorted(threads.keys() - known)]
    return [*at_start, *late]


def _colours(shares: dict[str, dict[str, float]]) -> dict[str, str]:
    """Give kinds of tasks their colours, those that took most time first."""
    totals: dict[str, float] = defaultdict(float)
    for kinds in shares.values():
        for kind, share in kinds.items():
            totals[kind] += share
    ordered = sorted(totals, key=lambda kind: -totals[kind])
    return dict(zip(ordered, [*COLOURS, *[OTHERS] * len(ordered)], strict=False))


def _legend(colours: dict[str, str]) -> list[tuple[str, str]]:
    own = [(kind, colour) for kind, colour in colours.items() if colour != OTHERS]
    others = [kind for kind, colour in colours.items() if colour == OTHERS]
    return [*own, (text.listed(others), OTHERS)] if others else own


def _rows(plot: "figure", drawn: Sequence[Bar], workers: Sequence[Worker], height: int) -> dict[str, tuple[float, int]]:
    """Name the rows; give the top of each worker's and its number of lanes. A lane is 1 high."""
    lanes = lane_counts(drawn, workers)
    tops = np.cumsum([0, *lanes]).tolist()
    middles = {worker.name: top + count / 2 for worker, top, count in zip(workers, tops, lanes, strict=False)}
    named = _apart(middles, LABEL_HEIGHT * tops[-1] / (height - AROUND))
    labels = text.labels([worker.name for worker in workers])
    style.label_ticks(plot.yaxis, [labels[name] for name in named], [middles[name] for name in named])
    plot.y_range.start, plot.y_range.end = tops[-1], 0
    plot.ygrid.visible = False
    return {worker.name: (top, count) for worker, top, count in zip(workers, tops, lanes, strict=False)}


def _apart(places: dict[str, float], distance: float) -> list[str]:
    """Choose names for which there is room; of many workers only some are named."""
    chosen: list[str] = []
    for name, place in places.items():
        if not chosen or place - places[chosen[-1]] >= distance:
            chosen.append(name)
    return chosen


def _gantt(
    seconds: float, drawn: Sequence[Bar], workers: Sequence[Worker], colours: dict[str, str], height: int
) -> "figure":
    plot = style.new_plot(
        height,
        x="time since the job's start (s)",
        hover=[
            ("", "@kind"),
            ("worker", "@worker"),
            ("from", "@left{0.000} s to @right{0.000} s"),
            ("steps", "@spans"),
        ],
        x_range=(0, max([seconds, *(bar.stop for bar in drawn)])),
    )
    rows = _rows(plot, drawn, workers, height)
    source: dict[str, Any] = {
        "left": np.array([bar.start for bar in drawn], dtype="float32"),
        "right": np.array([bar.stop for bar in drawn], dtype="float32"),
        "top": np.array([rows[bar.worker][0] + bar.lane + (0.62 if bar.moving else 0.08) for bar in drawn], "float32"),
        "bottom": np.array([rows[bar.worker][0] + bar.lane + 0.92 for bar in drawn], dtype="float32"),
        "kind": [bar.kind for bar in drawn],
        "worker": [text.worker(bar.worker) for bar in drawn],
        "spans": [bar.spans for bar in drawn],
        "colour": [MOVING if bar.moving else colours[bar.kind] for bar in drawn],
    }
    # The outline keeps short bars visible, and neighbours apart.
    plot.quad(
        left="left",
        right="right",
        top="top",
        bottom="bottom",
        source=source,
        fill_color="colour",
        line_color="colour",
        fill_alpha=0.8,
        line_width=1,
    )
    return plot


def _busy(
    shares: dict[str, dict[str, float]],
    workers: Sequence[Worker],
    colours: dict[str, str],
    height: int,
    drawn: Sequence[Bar],
) -> "figure":
    plot = style.new_plot(
        height,
        x="share of the job's time",
        hover=[("worker", "@worker"), ("@kind", "@share{0.0%} of its time")],
        x_range=(0, 1.18),
    )
    rows = _rows(plot, drawn, workers, height)
    source: dict[str, list[Any]] = {
        name: [] for name in ("left", "right", "top", "bottom", "kind", "worker", "share", "colour")
    }
    for worker in workers:
        top, lanes = rows[worker.name]
        left = 0.0
        for kind, colour in colours.items():
            share = shares[worker.name].get(kind, 0.0)
            middle, half = top + lanes / 2, lanes * 0.3
            cell = (left, left + share, middle - half, middle + half, kind, text.worker(worker.name), share, colour)
            for name, content in zip(source, cell, strict=True):
                source[name].append(content)
            left += share
    plot.quad(
        left="left", right="right", top="top", bottom="bottom", source=source, fill_color="colour", line_color=None
    )
    totals = {worker.name: sum(shares[worker.name].values()) for worker in workers}
    middles = {name: top + lanes / 2 for name, (top, lanes) in rows.items()}
    named = _apart(middles, LABEL_HEIGHT * max(top + lanes for top, lanes in rows.values()) / (height - AROUND))
    plot.text(
        [totals[name] + 0.02 for name in named],
        [middles[name] for name in named],
        text=[f"{totals[name]:.0%}" for name in named],
        text_color=style.MUTED,
        **style.TEXT,
    )
    plot.hover.renderers = plot.renderers[:1]
    plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    plot.xaxis.ticker = [0, 0.5, 1]
    return plot
