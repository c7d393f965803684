"""Colours, and plots that share one look.

What belongs to the page (text, axes, grids) takes its colours from page.css, which knows light from dark: Bokeh reads
CSS variables such as `--bk-grid-line-color`. Colours of data are here. Each has a contrast of at least 3.4 to white and
to the dark page alike, and the set stays distinct for colour-blind readers (M. Okabe and K. Ito, "Color universal
design", 2008, https://jfly.uni-koeln.de/color/).
"""

from collections.abc import Sequence
from typing import Any

from bokeh.core.properties import value
from bokeh.models import FixedTicker, HoverTool
from bokeh.plotting import figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#b8669a"
BROWN, VIOLET, OLIVE = "#8c6d31", "#7a6ff0", "#7b8a1e"
SERIES = (BLUE, GREEN, PURPLE, BROWN, VIOLET, OLIVE, VERMILLION)
#: Of what is there to be compared with, and of text in plots.
MUTED = "#76808b"
FONT = 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif'
#: How text in plots is set.
TEXT = {"text_font": value(FONT), "text_font_size": "12px", "text_baseline": "middle"}
_PALE, _MIDDLE, _DEEP = (222, 235, 247), (66, 146, 198), (8, 48, 107)


def new_plot(height: int, *, x: str = "", y: str = "", hover: Sequence[tuple[str, str]] = (), **options: Any) -> figure:
    """Make an empty plot that is as wide as its place.

    Parameters
    ----------
    height
        In pixels.
    x, y
        What the axes show, with units.
    hover
        Label and content of a tooltip's lines.
    options
        As for `bokeh.plotting.figure`.
    """
    tools = [HoverTool(tooltips=list(hover))] if hover else []
    options = {"toolbar_location": None, "tools": tools, "min_border": 4} | options
    plot = figure(height=height, sizing_mode="stretch_width", x_axis_label=x, y_axis_label=y, **options)
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    # Not colours of None: the page's variables would override them.
    plot.xgrid.visible = False
    for axis in plot.axis:
        axis.minor_tick_line_color = axis.major_tick_line_color = None
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "12px", "12px"
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_standoff = 8
    plot.yaxis.axis_line_alpha = 0
    return plot


def bare(plot: figure) -> None:
    """Take away what guides the eye to an axis: cells of a heat map do so themselves."""
    plot.grid.visible = False
    plot.xaxis.axis_line_alpha = 0


def label_ticks(axis: Any, labels: Sequence[str], positions: Sequence[float] | None = None) -> None:
    """Name places on an axis: 0, 1, 2… unless others are given."""
    places = list(range(len(labels))) if positions is None else list(positions)
    axis.ticker = FixedTicker(ticks=places)
    axis.major_label_overrides = dict(zip(places, labels, strict=True))


def shade(share: float) -> str:
    """Give the colour of a heat map for a value between 0, pale, and 1, deep."""
    low, high, along = (_PALE, _MIDDLE, 2 * share) if share < 0.5 else (_MIDDLE, _DEEP, 2 * share - 1)
    return "#" + "".join(f"{round(a + (b - a) * along):02x}" for a, b in zip(low, high, strict=True))


def ink_on(colour: str) -> str:
    """Give black or white, whichever is easier to read on `colour`, "#rrggbb"."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#10161d" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
