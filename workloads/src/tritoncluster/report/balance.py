"""Who did how much: each worker's share of the work, and whether it helped."""

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


def blocks(record: "Record") -> list[Block]:
    """List the workers for each notable part of a run's work."""
    return [_table(part) for part in record.balance if part.seconds > NOTABLE * record.seconds and part.work]


def _table(part: "Summary") -> Table:
    calls = max(1, sum(share.items - share.repeats for share in part.shares.values()))
    rows = [
        [
            text.worker(name),
            f"{share.items:,}",
            f"{(share.items - share.repeats) / calls:.0%}",
            f"{share.rate:,.3g}" if share.rate else "–",
            f"{share.pieces:,}",
            f"{share.repeats:,}",
            f"{share.lost:,}",
        ]
        for name, share in sorted(part.shares.items(), key=lambda each: (len(each[0]), each[0]))
    ]
    efficiency = "" if part.efficiency is None else f": {part.efficiency:.0%} of the workers' summed rates"
    columns = ["worker", "#calls", "#share of the work", "#calls a second", "#pieces", "#repeated", "#lost"]
    return Table(f"Who did how much, {for_people(part.name)}{efficiency}", columns, rows, note=NOTE)
