"""What is on each kind of page, in which order."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tritoncluster.report import asian_option, balance, cluster, comparison, forest, grid_search, poster, text, timeline
from tritoncluster.report.content import Block, Number, Page, Paragraph, Section, Table

if TYPE_CHECKING:
    from tritoncluster.compare import Comparison
    from tritoncluster.record import Record

NAMES = {"forest": "random forest", "grid-search": "grid search", "asian-option": "Asian option"}
ABOUT = {"forest": forest.ABOUT, "grid-search": grid_search.ABOUT, "asian-option": asian_option.ABOUT}


def of_records(records: Sequence["Record"]) -> Page:
    """Compose the page of one run or more."""
    first = records[0]
    reasons = [f"{title(record.job)}: {_reason(record.stopped)}" for record in records if record.stopped]
    sections = [_job(record) for record in records]
    numbers = [Number(text.seconds(math.fsum(record.seconds for record in records)), "of work")]
    if len(records) > 1:
        # The first screen has the most important number of each job; of one job, all are right below.
        leading = [(section.title, section.numbers[1]) for section in sections if len(section.numbers) > 1]
        numbers += [Number(number.text, f"{name}: {number.what}") for name, number in leading]
    else:
        numbers += cluster.numbers(first.workers)
    return Page(
        title=text.listed([title(records[0].job), *(_name(record.job) for record in records[1:])]),
        facts=[_when(first.started), cluster.in_words(first.workers)],
        status="Finished" if not reasons else f"Stopped early. {'. '.join(reasons)}",
        finished=not reasons,
        numbers=numbers,
        sections=[
            *sections,
            cluster.section(first.workers),
            _details(first, {title(record.job): record.parameters for record in records}),
        ],
    )


def of_comparison(compared: "Comparison") -> Page:
    """Compose the page of a comparison."""
    return Page(
        title=f"{title(compared.job)}: how the cluster compares",
        facts=[_when(compared.started), cluster.in_words(compared.workers)],
        status="Finished",
        finished=True,
        numbers=comparison.numbers(compared),
        sections=[
            comparison.section(compared),
            cluster.section(compared.workers),
            _details(compared, {title(compared.job): compared.parameters}),
        ],
    )


def title(job: str) -> str:
    """Name a job in a heading."""
    name = _name(job)
    return name[:1].upper() + name[1:]


def _name(job: str) -> str:
    return NAMES.get(job, job.replace("-", " "))


def _job(record: "Record") -> Section:
    result: Any = record.result
    numbers: Sequence[Number] = []
    blocks: Sequence[Block] = []
    if result is None:
        blocks = [Paragraph("Nothing was finished before it stopped, so there is nothing to draw.")]
    elif record.job == "forest":
        numbers, blocks = forest.numbers(result, record), forest.blocks(result)
    elif record.job == "grid-search":
        numbers, blocks = grid_search.numbers(result, record), grid_search.blocks(result)
    elif record.job == "asian-option":
        numbers, blocks = asian_option.numbers(result, record), asian_option.blocks(result, record)
    else:
        blocks = [Paragraph(f"{result.headline}.")]
    warning = f"Stopped early: {_reason(record.stopped)}." if record.stopped else ""
    if warning and result is not None:
        warning += " What follows is from the part that was finished."
    return Section(
        record.job,
        title(record.job),
        ABOUT.get(record.job, ""),
        [Number(text.seconds(record.seconds), "of work"), *numbers],
        (*blocks, timeline.block(record), *balance.blocks(record), *poster.blocks(record)),
        warning,
    )


def _details(run: "Record | Comparison", parameters: dict[str, dict[str, Any]]) -> Section:
    rows = [
        [job, name.replace("_", "-"), text.value(content)]
        for job, values in parameters.items()
        for name, content in values.items()
    ]
    versions = [[package, version] for package, version in run.versions.items()]
    blocks: list[Block] = [
        Table("Parameters", ["job", "parameter", "value"], rows),
        Table("Versions", ["package", "version"], versions),
        Paragraph(run.address or "the scheduler was gone", "Address of the scheduler"),
    ]
    return Section("details", "Parameters and versions", blocks=blocks, folded=True)


def _reason(stopped: BaseException | None) -> str:
    if isinstance(stopped, KeyboardInterrupt):
        return "interrupted from the keyboard"
    return " ".join(str(stopped).split()).rstrip(".") or type(stopped).__name__


def _when(started: datetime) -> str:
    return f"{started.day} {started:%B %Y, %H:%M} UTC"
