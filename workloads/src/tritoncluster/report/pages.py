"""What is on each kind of page, in which order."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tritoncluster.jobs import JOBS, load
from tritoncluster.report import balance, cluster, comparison, scale, text, timeline
from tritoncluster.report.content import Block, JobPage, Number, Page, Paragraph, Section, Table

if TYPE_CHECKING:
    from tritoncluster.compare import Comparison
    from tritoncluster.record import Record
    from tritoncluster.scale import Scaling


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
        **_status(compared.stopped),
        numbers=comparison.numbers(compared),
        sections=[
            comparison.section(compared),
            cluster.section(compared.workers),
            _details(compared, {title(compared.job): compared.parameters}),
        ],
    )


def of_scaling(scaled: "Scaling") -> Page:
    """Compose the page of a job on growing sets of machines."""
    last = scaled.steps[-1].record
    return Page(
        title=f"{title(scaled.job)}: what each machine brings",
        facts=[_when(scaled.started), cluster.in_words(last.workers)],
        **_status(scaled.stopped),
        numbers=scale.numbers(scaled),
        sections=[
            scale.section(scaled),
            cluster.section(last.workers),
            _details(last, {title(scaled.job): scaled.parameters}),
        ],
    )


def _status(stopped: BaseException | None) -> dict[str, Any]:
    return {"status": f"Stopped early: {_reason(stopped)}" if stopped else "Finished", "finished": stopped is None}


def title(job: str) -> str:
    """Name a job in a heading."""
    name = _name(job)
    return name[:1].upper() + name[1:]


def _name(job: str) -> str:
    return (load(job).title if job in JOBS else "") or job.replace("-", " ")


def _job(record: "Record") -> Section:
    page = JobPage(blocks=[Paragraph("Nothing was finished before it stopped, so there is nothing to draw.")])
    if record.result is not None:
        page = load(record.job).page(record.result, record)
    warning = f"Stopped early: {_reason(record.stopped)}." if record.stopped else ""
    if warning and record.result is not None:
        warning += " What follows is from the part that was finished."
    return Section(
        record.job,
        title(record.job),
        load(record.job).about,
        [Number(text.seconds(record.seconds), "of work"), *page.numbers],
        (
            *page.blocks,
            timeline.block(record),
            *balance.blocks(record),
            *([] if record.stopped else page.beside_poster),
        ),
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
