"""Plots of an option's price: how the estimate settles, and what paths pay."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from bokeh.models import NumeralTickFormatter, Span

from tritoncluster.montecarlo import running_estimates
from tritoncluster.report import poster, style, text
from tritoncluster.report.content import Block, Chart, JobPage, Number, Panel, Paragraph, Table

if TYPE_CHECKING:
    from tritoncluster.jobs.asian_option import AsianOptionResult
    from tritoncluster.record import Record

OPTION = {"spot": 100, "strike": 100, "drift": 0.02, "volatility": 0.2, "days": 1460}
OPTION_PATHS = 10_000
OPTION_MEANS = (11.97, 11.49)
#: Way, mean payoff, seconds.
OPTION_WAYS = (("a Python loop on one core", 11.97, 169.0), ("one task a path, on the cluster", 11.49, 39.1))
#: Of one payoff, undiscounted; a plain mean of 10,000 has a hundredth of it as standard error.
PLAIN_ERROR = 0.18
#: Standard errors that chance alone explains.
NEAR = 2.0


_TOO_RARE = (
    "So few paths show what makes the difference, payoffs or their absence, that the error is not a measurement but a "
    "bound on what they can amount to; the interval holds all the same. More paths make it smaller."
)


def _same_option(record: "Record") -> bool:
    """Whether the option is the poster's, so that both estimate the same quantity."""
    return all(record.parameters.get(name) == value for name, value in OPTION.items())


def of(result: "AsianOptionResult", record: "Record") -> JobPage:
    """Give the part of a page on a run."""
    blocks: list[Block] = [_convergence(result, record), _payoffs(result)]
    if result.estimate.too_rare:
        blocks.insert(0, Paragraph(_TOO_RARE, "Too rare for this many paths"))
    return JobPage(_numbers(result, record), blocks, [_beside_poster(result, record)])


def compared() -> list[Block]:
    """Say how the poster's ways compare."""
    (loop, _mean, looped), (tasks, _mean, tasked) = OPTION_WAYS
    times = f"{text.seconds(looped)} as {loop} and {text.seconds(tasked)} as {tasks}"
    faster = f"{looped / tasked:.1f} times as fast, with 30 cores"
    return [Paragraph(f"There, {OPTION_PATHS:,} paths took {times}: {faster}.", poster.TITLE)]


def _numbers(result: "AsianOptionResult", record: "Record") -> list[Number]:
    found = result.estimate
    steps = found.paths * (record.parameters.get("days", 1) - 1) / record.seconds
    return [
        Number(f"{found.mean:.4f}", f"mean payoff, standard error {found.standard_error:.4f}"),
        Number(f"{result.discount * found.mean:.4f}", "price today: the mean payoff, discounted"),
        Number(f"{_nothing(result):.1%}", "of the paths pay nothing"),
        Number(f"{found.paths:,}", f"paths, {steps / 1e6:,.0f} million steps a second"),
    ]


def _convergence(result: "AsianOptionResult", record: "Record") -> Chart:
    found = [each for each in running_estimates(result.rows) if math.isfinite(each.standard_error)]
    last = result.estimate
    low, high = last.confidence_95
    data = {
        "paths": [each.paths for each in found],
        "mean": [each.mean for each in found],
        "low": [each.confidence_95[0] for each in found],
        "high": [each.confidence_95[1] for each in found],
    }
    plot = style.new_plot(
        340,
        x="paths (logarithmic)",
        y="mean payoff (money)",
        x_axis_type="log",
        hover=[("paths", "@paths{0,0}"), ("estimate", "@mean{0.0000}"), ("95% band", "@low{0.000} to @high{0.000}")],
    )
    legend = [("estimate and its 95% band", style.BLUE), (f"last estimate: {last.mean:.4f}", style.MUTED)]
    plot.varea("paths", "low", "high", source=data, fill_color=style.BLUE, fill_alpha=0.2)
    line = plot.line("paths", "mean", source=data, color=style.BLUE, line_width=2)
    plot.hover.renderers, plot.hover.mode = [line], "vline"
    if len(found) == 1:  # no line
        plot.segment("paths", "low", "paths", "high", source=data, color=style.BLUE, line_width=2)
        plot.hover.renderers = [plot.scatter("paths", "mean", source=data, color=style.BLUE, size=7)]
    plot.add_layout(Span(location=last.mean, dimension="width", line_dash="dashed", line_color=style.MUTED))
    if _same_option(record):
        x, means = zip(*[(OPTION_PATHS, mean) for mean in OPTION_MEANS], strict=True)
        plot.scatter(x, means, marker="diamond", size=13, color=style.VERMILLION)
        legend.append(("the poster's two estimates", style.VERMILLION))
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    title = f"With 95% confidence the mean payoff is between {low:.4f} and {high:.4f}"
    note = (
        "A control variate, the average price, narrows the band: its expectation is known. What no path has shown yet "
        "is counted as error, so the band holds for rare payoffs, too."
    )
    return Chart(title, [Panel(plot)], legend=legend, note=note)


def _payoffs(result: "AsianOptionResult") -> Chart:
    paths = result.estimate.paths
    used = int(np.flatnonzero(result.histogram)[-1]) + 1 if result.histogram.any() else 1
    shares = result.histogram[:used] / paths
    edges = result.edges[: used + 1]
    ranges = [f"{low:,.1f} to {high:,.1f}" for low, high in pairwise(edges)]
    overflows = used == len(result.histogram)
    if overflows:
        ranges[-1] = f"{edges[-2]:,.1f} and more"
    plot = style.new_plot(
        340,
        x="payoff (money)",
        y="share of paths",
        hover=[("payoff", "@range"), ("share of paths", "@share{0.00%}"), ("paths", "@count{0,0}")],
    )
    source = {
        "left": edges[:-1],
        "right": edges[1:],
        "share": shares,
        "count": result.histogram[:used],
        "range": ranges,
        "colour": [style.BLUE] * (used - overflows) + [style.MUTED] * overflows,
    }
    plot.quad(
        left="left",
        right="right",
        bottom=0,
        top="share",
        source=source,
        fill_color="colour",
        line_color="white",
        line_alpha=0.35,
    )
    plot.y_range.start = 0
    plot.yaxis.formatter = NumeralTickFormatter(format="0.0%")
    title = "No path pays anything"
    if result.histogram.any():
        middle = edges[np.searchsorted(result.histogram.cumsum(), result.histogram.sum() / 2) + 1]
        title = f"{_nothing(result):.1%} of the paths pay nothing; half of the others pay more than about {middle:,.0f}"
    note = f"Drawn are the {text.many(int(result.histogram.sum()), 'path')} that pay something."
    if overflows:
        note += " The grey bar holds all larger payoffs."
    return Chart(title, [Panel(plot)], note=note)


def _nothing(result: "AsianOptionResult") -> float:
    return 1 - float(result.histogram.sum()) / result.estimate.paths


def _beside_poster(result: "AsianOptionResult", record: "Record") -> Block:
    if not _same_option(record):
        return Paragraph("The poster's option has other parameters, so nothing can be compared.", poster.TITLE)
    found = result.estimate
    same_size = found.paths == OPTION_PATHS
    rows = [
        [f"poster: {way}", f"{OPTION_PATHS:,}", f"{mean:.2f}", f"{PLAIN_ERROR:.2f}*", text.seconds(seconds)]
        for way, mean, seconds in OPTION_WAYS
    ]
    ours = [f"{found.mean:.4f}", f"{found.standard_error:.4f}", text.seconds(record.seconds)]
    rows.append([poster.this_run(record), f"{found.paths:,}", *ours])
    sizes = "" if same_size else "The numbers of paths differ, so times can't be compared. "
    distances = [abs(mean - found.mean) / math.hypot(PLAIN_ERROR, found.standard_error) for mean in OPTION_MEANS]
    close = sum(distance <= NEAR for distance in distances)
    return Table(
        f"{['Neither', 'One', 'Both'][close]} of the poster's two estimates {'lie' if close == 2 else 'lies'} within "
        "two standard errors of this one",
        ["", "#paths", "#mean payoff", "#standard error", "#time"],
        rows,
        marked=[2],
        note=f"{sizes}The hardware differs. * Not on the poster: that of a plain mean of 10,000 payoffs.",
        wide=True,
    )
