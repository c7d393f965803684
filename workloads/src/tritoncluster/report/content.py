"""What a page is made of; the template says how each looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from bokeh.plotting import figure


@dataclass(frozen=True)
class Number:
    """A figure that is shown large, with what it is below it."""

    text: str
    what: str


@dataclass(frozen=True)
class Panel:
    """One plot of a chart, with a caption where there are several."""

    plot: figure
    caption: str = ""


@dataclass(frozen=True)
class Scale:
    """Colours from a low to a high value."""

    colours: Sequence[str]
    low: str
    high: str
    what: str


@dataclass(frozen=True)
class Chart:
    """Plots under a sentence that says what there is to see.

    Parameters
    ----------
    title
        The sentence.
    panels
        Side by side where there is room.
    legend
        Names and their colours.
    scale
        What the colours of a heat map mean.
    note
        How to read it, or what is left out.
    wide
        Whether it takes the whole width of the page.
    """

    kind: ClassVar[str] = "chart"

    title: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, str]] = ()
    scale: Scale | None = None
    note: str = ""
    wide: bool = False
    layout: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Parameters
    ----------
    title
        A sentence, as a chart's.
    columns
        Their headings; one that starts with "#" holds numbers, which are aligned on the right.
    rows
        Cells, a row as long as `columns`.
    marked
        The rows that stand out.
    note
        How to read it.
    """

    kind: ClassVar[str] = "table"

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[int] = ()
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two."""

    kind: ClassVar[str] = "paragraph"

    text: str
    title: str = ""
    wide: bool = True


Block: TypeAlias = Chart | Table | Paragraph


@dataclass(frozen=True)
class JobPage:
    """What a job brings to a page.

    Parameters
    ----------
    numbers
        Its most important figures, the first one first.
    blocks
        Its plots and tables.
    beside_poster
        How a whole run compares with the poster, below the timeline.
    """

    numbers: Sequence[Number] = ()
    blocks: Sequence[Block] = ()
    beside_poster: Sequence[Block] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Parameters
    ----------
    name
        For links to it.
    title, summary
        Heading, and what this part is about.
    numbers
        The most important figures.
    blocks
        Plots, tables, paragraphs.
    warning
        Why there is less here than there should be.
    folded
        Whether a click opens it.
    """

    name: str
    title: str
    summary: str = ""
    numbers: Sequence[Number] = ()
    blocks: Sequence[Block] = field(default_factory=tuple)
    warning: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page.

    Parameters
    ----------
    title, facts
        Heading, and short statements below it.
    status
        "Finished", or why not.
    finished
        Whether all went to its end.
    numbers
        As in a section.
    sections
        In order.
    """

    title: str
    facts: Sequence[str]
    status: str
    finished: bool
    numbers: Sequence[Number]
    sections: Sequence[Section]

    @property
    def panels(self) -> list[Panel]:
        """All plots, in order."""
        charts = [block for section in self.sections for block in section.blocks if isinstance(block, Chart)]
        return [panel for chart in charts for panel in chart.panels]
