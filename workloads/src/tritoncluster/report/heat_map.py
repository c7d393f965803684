"""Mean scores of a grid search as heat maps, for a grid of any shape."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tritoncluster.report import style, text
from tritoncluster.report.content import Chart, Panel, Scale

#: Cells get their number when there are at most so many columns, and rows: it would not fit otherwise.
NUMBERED_COLUMNS, NUMBERED_ROWS = 8, 24
#: Shades reach from the best score down to so many times the median's distance from it.
SPREAD = 4
ROW_HEIGHT, MAX_HEIGHT = 34, 560


@dataclass(frozen=True)
class Axes:
    """Which parameter goes where; None where the grid has no more that vary.

    Parameters
    ----------
    facet
        One heat map for each of its values.
    y, x
        The two others with most values.
    rest
        Those of which each cell shows the best.
    """

    facet: str | None
    y: str | None
    x: str | None
    rest: tuple[str, ...]


def values_of(results: pd.DataFrame) -> dict[str, list[Any]]:
    """Give the values that each parameter takes: numbers by size, others in the order of the grid."""
    found: dict[str, dict[Hashable, Any]] = {}
    for params in results["params"]:
        for name, value in params.items():
            found.setdefault(name, {}).setdefault(_key(value), value)
    return {name: _in_order(list(values.values())) for name, values in found.items()}


def choose_axes(values: dict[str, list[Any]]) -> Axes:
    """Choose what to draw a grid by."""
    by_size = sorted((name for name in values if len(values[name]) > 1), key=lambda name: -len(values[name]))
    # Kernels are different models: they get a heat map each where two other parameters fill it.
    facet = "kernel" if "kernel" in by_size and len(by_size) > 2 else None
    others = [name for name in by_size if name != facet]
    y, x = [*others, None, None][:2]
    return Axes(facet, y, x, tuple(others[2:]))


def chart(results: pd.DataFrame) -> Chart | None:
    """Draw the mean scores; None when there is nothing to compare."""
    values = values_of(results)
    axes = choose_axes(values)
    scores = results["mean_test_score"].to_numpy(dtype=float)
    finite = scores[np.isfinite(scores)]
    if axes.y is None or not len(finite):
        return None
    lowest, high = float(finite.min()), float(finite.max())
    # A few bad candidates would leave one shade to all good ones.
    low = max(lowest, high - SPREAD * (high - float(np.median(finite)))) if np.median(finite) < high else lowest
    best = results["params"].iloc[int(np.nanargmax(scores))]
    panels = []
    for facet in values[axes.facet] if axes.facet else [None]:
        chosen = [
            (params, score)
            for params, score in zip(results["params"], scores, strict=True)
            if axes.facet is None or _key(params.get(axes.facet)) == _key(facet)
        ]
        plot = _plot(chosen, axes, values, (low, high), best)
        panels.append(Panel(plot, f"{axes.facet}: {text.python_value(facet)}" if axes.facet else ""))
    notes = ["The frame marks the best candidate."]
    if axes.rest:
        notes.append(f"Each cell is the best over the values of {text.listed(axes.rest)}.")
    if len(finite) < len(scores):
        notes.append(f"{text.many(len(scores) - len(finite), 'candidate')} could not be fitted and has no score.")
    return Chart(
        f"The mean score lies between {lowest:.4f} and {high:.4f}; best is {text.setting(best)}",
        panels,
        scale=Scale(
            [style.shade(step / 8) for step in range(9)],
            f"{low:.3f}{' and less' if low > lowest else ''}",
            f"{high:.3f}",
            "mean score",
        ),
        note=" ".join(notes),
        wide=len(panels) > 1 or len(values.get(axes.x or "", [])) > NUMBERED_COLUMNS,
    )


def _plot(
    candidates: Sequence[tuple[dict[str, Any], float]],
    axes: Axes,
    values: dict[str, list[Any]],
    limits: tuple[float, float],
    best: dict[str, Any],
) -> Any:
    rows, columns = values[axes.y or ""], values[axes.x] if axes.x else [None]
    cells = _best_in_cells(candidates, axes, values)
    numbered = len(columns) <= NUMBERED_COLUMNS and len(rows) <= NUMBERED_ROWS
    data = [_cell(place, *cell, limits, numbered=numbered) for place, cell in cells.items()]
    plot = style.new_plot(
        min(MAX_HEIGHT, 70 + ROW_HEIGHT * len(rows)),
        x=axes.x or "",
        y=axes.y or "",
        hover=[("candidate", "@setting"), ("mean score", "@score")],
        x_range=(-0.5, len(columns) - 0.5),
        y_range=(len(rows) - 0.5, -0.5),
    )
    style.bare(plot)
    source = {name: [cell[name] for cell in data] for name in _FIELDS}
    plot.rect("x", "y", 0.97, 0.94, source=source, fill_color="colour", fill_alpha="alpha", line_color=None)
    plot.text(
        "x",
        "y",
        text="shown",
        source=source,
        text_color="ink",
        text_align="center",
        **style.TEXT,
    )
    framed = [place for place, (params, _score) in cells.items() if params is best]
    plot.rect(
        [x for _y, x in framed],
        [y for y, _x in framed],
        0.97,
        0.94,
        fill_color=None,
        line_color=style.VERMILLION,
        line_width=3,
    )
    plot.hover.renderers = plot.renderers[:1]
    style.label_ticks(plot.yaxis, *_labels(rows, MAX_HEIGHT // 18))
    style.label_ticks(plot.xaxis, *_labels(columns if axes.x else [""], NUMBERED_COLUMNS + 4))
    if max(len(label) for label in plot.xaxis.major_label_overrides.values()) > 40 // len(columns):
        plot.xaxis.major_label_orientation = 0.7
        plot.height += 60
    return plot


def _best_in_cells(
    candidates: Sequence[tuple[dict[str, Any], float]], axes: Axes, values: dict[str, list[Any]]
) -> dict[tuple[int, int], tuple[dict[str, Any], float]]:
    places = {name: {_key(value): place for place, value in enumerate(options)} for name, options in values.items()}
    cells: dict[tuple[int, int], tuple[dict[str, Any], float]] = {}
    for params, score in candidates:
        row, column = (places[name][_key(params[name])] if name else 0 for name in (axes.y, axes.x))
        known = cells.get((row, column))
        if known is None or np.isnan(known[1]) or score > known[1]:
            cells[row, column] = params, score
    return cells


_FIELDS = ("x", "y", "setting", "score", "shown", "colour", "alpha", "ink")


def _cell(
    place: tuple[int, int], params: dict[str, Any], score: float, limits: tuple[float, float], *, numbered: bool
) -> dict[str, object]:
    low, high = limits
    known = bool(np.isfinite(score))
    colour = style.shade(max(0.0, score - low) / (high - low) if high > low else 0.5) if known else style.MUTED
    return {
        "x": place[1],
        "y": place[0],
        "setting": text.setting(params),
        "score": f"{score:.6f}" if known else "could not be fitted",
        "shown": (f"{score:.3f}" if known else "–") if numbered else "",
        "colour": colour,
        "alpha": 1.0 if known else 0.25,
        "ink": style.ink_on(colour) if known else style.MUTED,
    }


def _labels(values: Sequence[Any], room: int) -> tuple[list[str], list[int]]:
    step = -(-len(values) // room)
    return [text.label(text.python_value(value), 14) for value in values[::step]], list(range(0, len(values), step))


def _in_order(values: list[Any]) -> list[Any]:
    numbers = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers else values


def _key(value: Any) -> Hashable:
    # Lists and dicts can be values too (class_weight), True is not 1, and 1 is 1.0.
    numeric = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    return float(value) if numeric else f"{type(value).__name__} {value!r}"
