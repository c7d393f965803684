"""Plots of a forest: how its accuracy grows, and what it takes for what."""

from typing import TYPE_CHECKING

import numpy as np
from bokeh.models import NumeralTickFormatter, Span
from numpy.typing import NDArray

from tritoncluster.report import poster, style, text
from tritoncluster.report.content import Block, Chart, JobPage, Number, Panel, Paragraph, Table

if TYPE_CHECKING:
    from tritoncluster.jobs.forest import ForestResult
    from tritoncluster.record import Record

#: Accuracy within this distance of the last one has settled.
SETTLED = 0.005

#: The poster's forest, and for its clusters: machines, cores, seconds.
TREES = 8000
FOREST_TIMES = (
    ("one machine, serial", "1", 901),
    ("1 Raspberry Pi and a laptop", "11", 237),
    ("2 Raspberry Pis and a laptop", "15", 181),
    ("3 Raspberry Pis and a laptop", "19", 152),
    ("4 Raspberry Pis and a laptop", "23", 134),
    ("4 Raspberry Pis, a laptop and a desktop", "30", 124),
)


def of(result: "ForestResult", record: "Record") -> JobPage:
    """Give the part of a page on a run."""
    return JobPage(_numbers(result, record), [_accuracy(result), _confusion(result)], [_beside_poster(record)])


def _numbers(result: "ForestResult", record: "Record") -> list[Number]:
    trees = len(result.votes)
    return [
        Number(f"{result.test_accuracy:.2%}", f"accuracy on {len(result.truth):,} test digits"),
        Number(f"{trees:,}", "trees"),
        Number(f"{trees / record.seconds:,.0f}", "trees a second"),
    ]


def _accuracy(result: "ForestResult") -> Chart:
    sizes, accuracies = result.accuracy_over_trees()
    final = accuracies[-1]
    away = [size for size, accuracy in zip(sizes, accuracies, strict=True) if abs(accuracy - final) > SETTLED]
    settled = next((size for size in sizes if not away or size > away[-1]), sizes[-1])
    title = f"From {text.many(settled, 'tree')} on, accuracy stays within half a percent of its last value"
    plot = style.new_plot(
        340,
        x="trees that vote (logarithmic)",
        y="share of test digits that are right",
        x_axis_type="log",
        hover=[("trees", "@trees{0,0}"), ("accuracy", "@accuracy{0.00%}")],
    )
    data = {"trees": sizes, "accuracy": accuracies}
    plot.line("trees", "accuracy", source=data, color=style.BLUE, line_width=2)
    plot.scatter("trees", "accuracy", source=data, color=style.BLUE, size=5)
    plot.add_layout(Span(location=final, dimension="width", line_dash="dashed", line_color=style.MUTED))
    plot.yaxis.formatter = NumeralTickFormatter(format="0%" if np.ptp(accuracies) > 0.04 else "0.0%")
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.hover.mode = "vline"
    return Chart(title, [Panel(plot)], legend=[(f"all {len(result.votes):,} trees: {final:.2%}", style.MUTED)])


def _confusion(result: "ForestResult") -> Chart:
    counts = result.confusion()
    labels = [str(label) for label in np.union1d(result.truth, result.predict())]
    data = _cells(counts, labels)
    plot = style.new_plot(
        380,
        x="what the forest says",
        y="what the digit is",
        hover=[("digit", "@truth"), ("taken for", "@taken"), ("test digits", "@count of @row_total")],
        x_range=(-0.5, len(labels) - 0.5),
        y_range=(len(labels) - 0.5, -0.5),
    )
    style.bare(plot)
    plot.rect("x", "y", 0.94, 0.94, source=data, fill_color="colour", fill_alpha="alpha", line_color=None)
    plot.text(
        "x",
        "y",
        text="shown",
        source=data,
        text_color="ink",
        text_align="center",
        **style.TEXT,
    )
    style.label_ticks(plot.xaxis, labels)
    style.label_ticks(plot.yaxis, labels)
    return Chart(
        _mistakes(counts, labels), [Panel(plot)], legend=[("right", style.BLUE), ("mistakes", style.VERMILLION)]
    )


def _cells(counts: NDArray[np.int64], labels: list[str]) -> dict[str, list[object]]:
    data: dict[str, list[object]] = {
        name: [] for name in ("x", "y", "truth", "taken", "count", "row_total", "shown", "colour", "alpha", "ink")
    }
    for (row, column), count in np.ndenumerate(counts):
        colour = style.BLUE if row == column else style.VERMILLION if count else style.MUTED
        cell = {
            "x": column,
            "y": row,
            "truth": labels[row],
            "taken": labels[column],
            "count": int(count),
            "row_total": int(counts[row].sum()),
            "shown": f"{count}" if count else "",
            "colour": colour,
            "alpha": 1.0 if count else 0.1,
            "ink": style.ink_on(colour),
        }
        for name, content in cell.items():
            data[name].append(content)
    return data


def _mistakes(counts: NDArray[np.int64], labels: list[str]) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return "Each test digit is taken for what it is"
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    share = f"{wrong.sum()} of {counts.sum():,} test digits {'is' if wrong.sum() == 1 else 'are'} taken for another"
    if wrong.max() == 1:
        return f"{share}, no two in the same way" if wrong.sum() > 1 else share
    return f"{share}; most often a {labels[row]} for a {labels[column]}, {wrong.max()} times"


def _beside_poster(record: "Record") -> Block:
    trees = record.parameters.get("trees")
    if trees != TREES:
        return Paragraph(
            f"The poster's forest has {TREES:,} trees; it took 15 min 01 s on one machine and 2 min 04 s on six with "
            f"30 cores. This run has {text.value(trees)} trees, so times can't be compared; they can with "
            f"--trees {TREES}.",
            poster.TITLE,
        )
    rows = [[machines, cores, text.seconds(seconds)] for machines, cores, seconds in FOREST_TIMES]
    rows.append([poster.this_run(record), str(poster.threads(record)), text.seconds(record.seconds)])
    return Table(
        f"{TREES:,} trees: the poster's clusters and this run",
        ["cluster", "#cores", "#time"],
        rows,
        marked=[len(rows) - 1],
        note="The hardware and the versions differ. This run fits three quarters of the digits and tests the forest on "
        "the rest; the poster leaves open which of this its times are for.",
        wide=True,
    )
