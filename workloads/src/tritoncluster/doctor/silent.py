"""Workers that the scheduler knows and that do not answer: whether they hang, are busy, or can't be reached."""

from collections.abc import Iterator, Mapping, Sequence
from platform import python_version
from typing import Any

from distributed import Client
from distributed.versions import get_versions

from tritoncluster.doctor import probes
from tritoncluster.doctor.finding import Finding
from tritoncluster.doctor.network import OPEN, RESTART
from tritoncluster.nodes import Worker, ask_scheduler, ask_workers
from tritoncluster.versions import minor

#: For each question, in seconds; they go to nannies, which have nothing else to do, and to the scheduler.
SECONDS = 3.0
#: What psutil calls a process that was told to stop, and one that waits for a disk.
STOPPED, WAITS_FOR_DISK = {"stopped", "tracing-stop"}, "disk-sleep"


def findings(client: Client, workers: Sequence[Worker], *, scheduler: bool) -> Iterator[Finding]:
    """Say of each worker, on one line, what keeps it from answering.

    Parameters
    ----------
    client, workers
        The cluster, and those of its workers that did not answer.
    scheduler
        Whether code may run on the scheduler, to see if their ports take connections.
    """
    addresses = [worker.address for worker in workers]
    knocks: Any = ask_scheduler(client, probes.knock_at, addresses, seconds=SECONDS) if scheduler else {}
    if not isinstance(knocks, dict):
        knocks = {}
    watched = [worker.address for worker in workers if worker.nanny]
    # First by a function of Dask's, which travels as a name: byte-code of ours could crash another Python.
    nannies = ask_workers(client, watched, get_versions, seconds=SECONDS, nanny=True)
    able = [address for address, answer in nannies.items() if _same_python(answer)]
    processes = ask_workers(client, able, probes.process, seconds=SECONDS, nanny=True)
    for worker in workers:
        answer = nannies.get(worker.address)
        yield judge(
            worker,
            knock=knocks.get(worker.address),
            nanny=None if answer is None else not isinstance(answer, Exception),
            process=processes.get(worker.address),
        )


def judge(worker: Worker, *, knock: str | None, nanny: bool | None, process: Any) -> Finding:
    """Say what is wrong with a worker that does not answer.

    Parameters
    ----------
    worker
        That one.
    knock
        Why its port takes no connections, "" when it does, None when nobody tried.
    nanny
        Whether its nanny answers, None when it has none or was not asked.
    process
        What `tritoncluster.doctor.probes.process` gave, anything else when nobody could look.
    """
    what = probes.SILENT if knock == "" else "it does not answer"
    watched = process if isinstance(process, Mapping) else {}
    # A process that hangs for long takes no more connections either.
    if knock and watched.get("state") not in {*STOPPED, WAITS_FOR_DISK}:
        detail, remedy = f"not reached from the scheduler at {worker.address}: {knock}", OPEN
    elif watched:
        detail, remedy = _of_process(**watched)
        detail = f"{what}: {detail}"
    elif nanny is False:
        detail = f"{what}, nor does its nanny: its container or host is paused, or hangs"
        remedy = "see on its host whether it was paused (docker unpause), and how its card or disk is; restart it"
    else:
        detail, remedy = f"{what}; its nanny does" if nanny else what, RESTART
    return Finding("workers", ok=not remedy, where=worker.name, detail=detail, remedy=remedy)


def _of_process(*, pid: int, state: str, computes: bool) -> tuple[str, str]:
    """Say what a worker's process is at, and what to do about it."""
    again = f"kill -KILL {pid} there, and its nanny starts another"
    if state in STOPPED:
        return f"process {pid} is stopped", f"on its host: kill -CONT {pid}; or {again}"
    if state == WAITS_FOR_DISK:
        return (
            f"process {pid} waits for a disk or a network file system",
            "look at its card or disk, and into dmesg, on its host; restart the host if it stays so",
        )
    if computes:
        return f"process {pid} is busy with a call that lets nothing else run, and is left out of the checks", ""
    return f"process {pid} is there, and does nothing", f"see in its log what it waits for; on its host: {again}"


def _same_python(answer: Any) -> bool:
    # Dask gives it as "3.11.7.final.0".
    return isinstance(answer, dict) and minor(answer["packages"]["python"]) == minor(python_version())
