"""Plots of a grid search: scores, and how unequal the fits are."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tritoncluster.report import heat_map, style, text
from tritoncluster.report.content import Block, Chart, Number, Panel, Paragraph, Table

if TYPE_CHECKING:
    from tritoncluster.jobs.grid_search import GridSearchResult
    from tritoncluster.record import Record

#: Rows in the table of the best.
BEST = 5

ABOUT = (
    "Each combination of parameters of a support vector classifier is fitted and tested on several splits of the data. "
    "Some fits take many times as long as others."
)


def numbers(result: "GridSearchResult", record: "Record") -> list[Number]:
    """Give the headline figures."""
    table = result.cv_results
    folds = int(record.parameters.get("cv") or 1)
    best = table["mean_test_score"].max()
    found = [
        Number("none" if pd.isna(best) else f"{best:.4f}", f"best mean score of {text.many(folds, 'fold')}"),
        Number(f"{len(table):,}", f"candidates, {len(table) * folds:,} fits"),
    ]
    if result.score is not None:
        found.insert(1, Number(f"{result.score:.5f}", "score of the best, fitted on all samples"))
    return found


def blocks(result: "GridSearchResult") -> list[Block]:
    """Draw the result."""
    table = result.cv_results
    heat = heat_map.chart(table)
    nothing = Paragraph("There is one candidate, or none with a score, so there is no heat map to draw.")
    return [heat or nothing, _fit_times(table), _best(table)]


def _fit_times(table: pd.DataFrame) -> Chart:
    ordered = table.sort_values("mean_fit_time", kind="stable")
    times = ordered["mean_fit_time"].to_numpy(dtype=float)
    kernels = [str(params.get("kernel", "")) for params in ordered["params"]]
    kinds = list(dict.fromkeys(str(params.get("kernel", "")) for params in table["params"]))
    colours = {kind: style.SERIES[number % len(style.SERIES)] for number, kind in enumerate(kinds)}
    plot = style.new_plot(
        320,
        x="candidates, from the shortest fit to the longest",
        y="mean time of a fit (s)",
        hover=[("candidate", "@setting"), ("mean time of a fit", "@seconds{0.000} s"), ("mean score", "@score")],
    )
    source = {
        "x": np.arange(1, len(times) + 1),
        "seconds": times,
        "setting": [text.setting(params) for params in ordered["params"]],
        "score": [f"{score:.4f}" for score in ordered["mean_test_score"]],
        "colour": [colours[kernel] for kernel in kernels],
    }
    plot.vbar("x", width=0.8, top="seconds", source=source, fill_color="colour", line_color=None)
    plot.y_range.start = 0
    plot.x_range.start, plot.x_range.end = 0.25, len(times) + 0.75
    plot.xaxis.ticker.min_interval = 1
    longest = text.setting(ordered["params"].iloc[-1])
    title = f"Each fit takes {text.seconds(times[-1])}"
    if len(times) > 1 and times[0] > 0:
        title = f"The longest fit takes {times[-1] / times[0]:,.1f} times the shortest: {longest}"
    return Chart(title, [Panel(plot)], legend=[(kind, colours[kind]) for kind in kinds] if len(kinds) > 1 else [])


def _best(table: pd.DataFrame) -> Table:
    best = table.sort_values("mean_test_score", ascending=False, kind="stable").head(BEST)
    names = list(dict.fromkeys(name for params in table["params"] for name in params))
    rows = [
        [
            *(text.shorten(text.python_value(row["params"].get(name)), 24) for name in names),
            f"{row['mean_test_score']:.4f} ± {row['std_test_score']:.4f}"
            if np.isfinite(row["mean_test_score"])
            else "could not be fitted",
            text.seconds(row["mean_fit_time"]),
        ]
        for _index, row in best.iterrows()
    ]
    title = f"The best {len(rows)} of {len(table):,} candidates" if len(table) > BEST else "All candidates"
    columns = [*names, "#mean score ± deviation", "#fit"]
    return Table(title, columns, rows, marked=[0], note="The deviation is that of the score between folds.")
