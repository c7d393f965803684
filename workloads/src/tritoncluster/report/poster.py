"""The poster that this project takes its jobs from, beside a run.

Figures are put side by side where a run has the poster's sizes; elsewhere the page says that they differ. Times come
from other hardware in any case: up to four Raspberry Pis, a laptop and a desktop. The figures are with the jobs.
"""

from typing import TYPE_CHECKING

from tritoncluster.report import cluster, text

if TYPE_CHECKING:
    from tritoncluster.record import Record

TITLE = "Beside the poster"


def this_run(record: "Record") -> str:
    """Name a run in a table."""
    machines = text.listed(cluster.kinds(record.workers))
    return f"this run: {text.many(len(record.workers), 'worker')}, {machines}"


def threads(record: "Record") -> int:
    """Count the threads that a run had."""
    return sum(worker.threads for worker in record.workers)
