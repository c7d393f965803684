"""The same work in several ways: which is fastest, and whether the cluster helps."""

from typing import TYPE_CHECKING

from bokeh.models import NumeralTickFormatter, Span

from tritoncluster.compare import CLUSTER, JOBLIBS_DASK
from tritoncluster.jobs import load
from tritoncluster.report import style, text, timeline
from tritoncluster.report.content import Block, Chart, Number, Panel, Section, Table

if TYPE_CHECKING:
    from tritoncluster.compare import Comparison, Way

#: Ratios that are further apart need a logarithmic axis.
FAR_APART = 20


def numbers(comparison: "Comparison") -> list[Number]:
    """Give the headline figures."""
    serial = comparison.ways[0].seconds
    fastest = min(comparison.ways, key=lambda way: way.seconds)
    cluster = [
        Number(f"{serial / way.seconds:.1f}×", "the cluster's speed, as a multiple of serial work's")
        for way in comparison.ways
        if way.name == CLUSTER
    ]
    return [*cluster, Number(fastest.name, "the fastest way"), Number(text.seconds(fastest.seconds), "its time")]


def section(comparison: "Comparison") -> Section:
    """Draw the ratios."""
    blocks: list[Block] = [_chart(comparison), _table(comparison)]
    named = {way.name: way for way in comparison.ways}
    timelines = [
        (title, named[name].seconds, named[name].spans)
        for name, title in ((CLUSTER, "the balanced queue"), (JOBLIBS_DASK, "joblib's Dask backend"))
        if name in named and named[name].spans
    ]
    if timelines:
        blocks.append(timeline.side_by_side(timelines, comparison.workers))
    blocks += load(comparison.job).compared()
    return Section("comparison", "The work in each way", comparison.verdict, blocks=blocks)


def _chart(comparison: "Comparison") -> Chart:
    ways = comparison.ways
    ratios = [comparison.ratio(way) for way in ways]
    logarithmic = max(ratios) > FAR_APART * min(ratios)
    start = min(ratios) / 3 if logarithmic else 0
    plot = style.new_plot(
        70 + 44 * len(ways),
        x="multiple of the serial time" + (" (logarithmic)" if logarithmic else ""),
        hover=[("way", "@name"), ("time", "@time"), ("of the serial time", "@label")],
        x_axis_type="log" if logarithmic else "linear",
        x_range=(start, max(ratios) * (6 if logarithmic else 1.2)),
        y_range=(len(ways) - 0.5, -0.5),
    )
    source = {
        "y": list(range(len(ways))),
        "ratio": ratios,
        "name": [way.name for way in ways],
        "time": [text.seconds(way.seconds) + (", scaled" if way.share < 1 else "") for way in ways],
        "label": [_times(ratio) for ratio in ratios],
        "colour": [_colour(way) for way in ways],
        "hatch": ["/" if way.share < 1 else " " for way in ways],
    }
    plot.hbar(
        "y",
        left=start,
        right="ratio",
        height=0.6,
        source=source,
        fill_color="colour",
        line_color=None,
        hatch_pattern="hatch",
        hatch_color="white",
        hatch_alpha=0.45,
        hatch_scale=8,
    )
    plot.text(
        "ratio",
        "y",
        text="label",
        source=source,
        x_offset=8,
        text_color=style.MUTED,
        **style.TEXT,
    )
    plot.hover.renderers = plot.renderers[:1]
    plot.add_layout(Span(location=1, dimension="height", line_dash="dashed", line_color=style.MUTED))
    plot.ygrid.visible, plot.xgrid.visible = False, True
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    style.label_ticks(plot.yaxis, [text.label(way.name, 24) for way in ways])
    fastest = min(ways, key=lambda way: way.seconds)
    title = f"The fastest way is {fastest.name}: {ways[0].seconds / fastest.seconds:.1f} times as fast as serial work"
    if len(ways) == 1:
        title = "Serial work alone was done"
    elif fastest is ways[0]:
        title = "No way is faster than serial work"
    return Chart(
        title,
        [Panel(plot)],
        note="Shorter is better. Hatched: a part of the work was done and its time scaled."
        if any(way.share < 1 for way in ways)
        else "Shorter is better.",
        wide=True,
    )


def _table(comparison: "Comparison") -> Table:
    rows = [
        [
            way.name,
            text.seconds(way.seconds),
            _times(comparison.ratio(way)),
            "all of it" if way.share >= 1 else f"{way.share:.2%}, time scaled",
        ]
        for way in comparison.ways
    ]
    marked = [number for number, way in enumerate(comparison.ways) if way.name == CLUSTER]
    return Table(
        "", ["way", "#time of the whole work", "#of the serial time", "#work that was done"], rows, marked, wide=True
    )


def _colour(way: "Way") -> str:
    return style.BLUE if way.name == CLUSTER else style.MUTED


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.2f}×"
