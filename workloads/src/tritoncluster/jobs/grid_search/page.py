"""Plots of a grid search: scores, and how unequal the fits are."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tritoncluster.report import heat_map, poster, style, text
from tritoncluster.report.content import Block, Chart, JobPage, Number, Panel, Paragraph, Table

if TYPE_CHECKING:
    from tritoncluster.jobs.grid_search import GridSearchResult
    from tritoncluster.record import Record

#: Rows in the table of the best.
BEST = 5

GRID = {"samples": 20_000, "cv": 3, "grid": None}
GRID_SECONDS = 1534
GRID_SCORE, GRID_HEAD = 0.87735, [0, 1, 0, 1, 1]
#: The score of C=0.001 on the first split.
GRID_SPLITS = {"rbf": 0.821509, "poly": 0.796610}


def of(result: "GridSearchResult", record: "Record") -> JobPage:
    """Give the part of a page on a run."""
    table = result.cv_results
    nothing = Paragraph("There is one candidate, or none with a score, so there is no heat map to draw.")
    blocks = [heat_map.chart(table) or nothing, _fit_times(table), _best(table)]
    return JobPage(_numbers(result, record), blocks, [_beside_poster(result, record)])


def _numbers(result: "GridSearchResult", record: "Record") -> list[Number]:
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


def _beside_poster(result: "GridSearchResult", record: "Record") -> Block:
    differing = [name for name, value in GRID.items() if record.parameters.get(name) != value]
    if differing:
        ours = {"samples": text.value(record.parameters.get("samples")) + " samples"}
        ours |= {"cv": f"{record.parameters.get('cv')} folds", "grid": "a grid of its own"}
        return Paragraph(
            "The poster's search, 48 candidates with 3 folds on 20,000 samples, took 25 min 34 s on 30 cores and "
            f"scored {GRID_SCORE}. This run has {text.listed([ours[name] for name in differing])}, so neither scores "
            "nor times can be compared.",
            poster.TITLE,
        )
    table = result.cv_results
    rows = [
        ["score of the best on all samples", f"{result.score}", f"{GRID_SCORE}"],
        ["its first five predictions", _spaced(result.predict_head), _spaced(GRID_HEAD)],
    ]
    for kernel, score in GRID_SPLITS.items():
        chosen = table.loc[[params["C"] == 0.001 and params["kernel"] == kernel for params in table["params"]]]
        found = f"{chosen['split0_test_score'].iloc[0]:.6f}"
        rows.append([f"first split, C = 0.001, {kernel}", found, f"{score:.6f}"])
    same = sum(ours == theirs for _what, ours, theirs in rows)
    rows.append([f"time ({poster.threads(record)} cores here, 30 there)", text.seconds(record.seconds), "25 min 34 s"])
    return Table(
        f"{'All' if same == len(rows) - 1 else same} of the poster's {len(rows) - 1} legible figures come out the same",
        ["", "#this run", "#poster"],
        rows,
        note="The poster's classifiers also fitted probabilities, which takes several more fits each. Its hardware "
        "differs.",
    )


def _spaced(labels: list[int] | None) -> str:
    return " ".join(str(label) for label in labels or [])
