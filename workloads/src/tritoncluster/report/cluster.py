"""The machines that work ran on."""

from collections.abc import Sequence

from tritoncluster.record import Worker
from tritoncluster.report import text
from tritoncluster.report.content import Number, Section, Table


def numbers(workers: Sequence[Worker]) -> list[Number]:
    """Give the cluster's size."""
    threads = sum(worker.threads for worker in workers)
    return [
        Number(f"{len(workers):,}", "worker" if len(workers) == 1 else "workers"),
        Number(f"{threads:,}", "thread" if threads == 1 else "threads"),
        Number(_total_memory(workers), "memory"),
    ]


def in_words(workers: Sequence[Worker]) -> str:
    """Give the cluster's size on one line."""
    threads = sum(worker.threads for worker in workers)
    parts = [f"{text.many(len(workers), 'worker')} with {text.many(threads, 'thread')}", text.listed(kinds(workers))]
    silent = sum(not worker.responding for worker in workers)
    return ", ".join(filter(None, [*parts, f"{silent:,} of them did not answer" if silent else ""]))


def kinds(workers: Sequence[Worker]) -> list[str]:
    """Give the architectures of those that told theirs."""
    return sorted({worker.architecture for worker in workers if worker.architecture})


def section(workers: Sequence[Worker]) -> Section:
    """List the workers."""
    rows = [
        [
            text.worker(worker.name),
            worker.architecture if worker.responding else "did not answer",
            f"{worker.threads:,}",
            text.memory(worker.memory_bytes),
        ]
        for worker in workers
    ]
    columns = ["worker", "architecture", "#threads", "#memory limit"]
    return Section("cluster", "The cluster", blocks=[Table("", columns, rows, wide=True)])


def _total_memory(workers: Sequence[Worker]) -> str:
    limits = [worker.memory_bytes for worker in workers]
    return text.memory(sum(limits) if all(limits) else 0)
