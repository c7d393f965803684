"""Who did how much: each worker's share of the work, and whether it helped."""

import math
from typing import TYPE_CHECKING

from tritoncluster.report import text
from tritoncluster.report.content import Block, Table
from tritoncluster.report.lanes import for_people

if TYPE_CHECKING:
    from tritoncluster.balance import Summary
    from tritoncluster.record import Record

#: Parts of the work that take less than this part of a run are left out.
NOTABLE = 0.02
NOTE = (
    "A worker's rate is that of its own calls while it computes them; the efficiency is the rate of all divided by the "
    "sum of these, for the time that each was there. Where calls differ a lot in length, a rate depends on which ones "
    "a worker got. Repeated are calls that another worker answered first; lost are calls that were being computed when "
    "the worker went."
)

SHARING_NOTE = (
    "Who has work for the same worker at the same time shares it by weight. What others used was seen on the workers "
    "while this run was there."
)


def blocks(record: "Record") -> list[Block]:
    """List the workers for each notable part of a run's work, and who else used them."""
    parts = [part for part in record.balance if part.seconds > NOTABLE * record.seconds and part.work]
    return [block for part in parts for block in (_table(part), *_sharing(part))]


def _table(part: "Summary") -> Table:
    calls = max(1, sum(share.items - share.repeats for share in part.shares.values()))
    rows = [
        [
            text.worker(name),
            f"{share.items:,}",
            f"{(share.items - share.repeats) / calls:.0%}",
            _rate(share.rate),
            f"{share.chunks:,}",
            f"{share.repeats:,}",
            f"{share.lost:,}",
        ]
        for name, share in sorted(part.shares.items(), key=lambda each: (len(each[0]), each[0]))
    ]
    efficiency = "" if part.efficiency is None else f": {part.efficiency:.0%} of the workers' summed rates"
    columns = ["worker", "#calls", "#share of the work", "#calls a second", "#chunks", "#repeated", "#lost"]
    return Table(f"Who did how much, {for_people(part.name)}{efficiency}", columns, rows, note=NOTE, wide=True)


def _sharing(part: "Summary") -> list[Block]:
    """List who used the workers, if that was not this run alone."""
    others = [other for other in part.others if other.seconds > NOTABLE * part.seconds]
    if not others:
        return []
    busy = math.fsum(share.busy for share in part.shares.values())
    used = busy + math.fsum(other.seconds for other in others)
    names = [f"{for_people(other.work)}, {other.who}" if other.work else "other tasks of Dask" for other in others]
    weights = [part.weight, *(other.weight for other in others)]
    rows = [
        [name, f"{weight:g}" if weight else "1 a client", text.seconds(seconds), f"{seconds / used:.0%}"]
        for name, weight, seconds in zip(
            ["this run", *names], weights, [busy, *(other.seconds for other in others)], strict=True
        )
    ]
    columns = ["who", "#weight", "#time of threads", "#share"]
    title = f"This run had {busy / used:.0%} of the workers"
    return [Table(title, columns, rows, note=SHARING_NOTE, wide=True)]


def _rate(rate: float | None) -> str:
    if not rate:
        return "–"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
