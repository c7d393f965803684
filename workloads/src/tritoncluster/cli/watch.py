"""Sees to it that a command that the kernel kills, as for want of memory, does not end without a word."""

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

from tritoncluster.doctor.system import control_groups, memory_limits, text

#: What ends a process that wants to go on; what the terminal sends reaches the child by itself.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Of Linux: the kernel sent the signal, as for a key of the terminal, and not another process.
BY_KERNEL = 0x80
SET_PARENT_DEATH_SIGNAL = 1
#: Bytes of what the child says of its journal.
NOTE = 4096

#: Where the child says it; None in a process without a parent that reads it.
_to_parent: int | None = None


def watched() -> int | None:
    """Go on in a child of this process.

    Returns
    -------
    int or None
        None in the child, which does the work; in this process, once that has ended, its exit status. Without a child
        None too: where there is no Linux, and in a program that has threads.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return None
    global _to_parent  # noqa: PLW0603
    before = memory_kills()
    from_child, to_parent = os.pipe()
    signals = {*FORWARDED, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(from_child)
        _to_parent = to_parent
        # It ends with this process, however that ends.
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None
    os.close(to_parent)
    status = os.waitstatus_to_exitcode(_wait(child, signals))
    if status >= 0:
        return status
    line = explain(-status, by_memory=memory_kills() > before) + _advice(from_child)
    sys.stderr.write(f"tritoncluster: {line}\n")
    return 128 - status


def note(journal: Path, command: str) -> None:
    """Let who watches this process know where finished pieces are kept, and the command that goes on with them."""
    if _to_parent is not None:
        os.write(_to_parent, f"{journal.absolute()}\0{command}".encode()[:NOTE])


def _advice(from_child: int) -> str:
    os.set_blocking(from_child, False)
    try:
        journal, _, command = os.read(from_child, NOTE).decode(errors="replace").partition("\0")
    except BlockingIOError:  # some process that the child started has it still open
        return ""
    return f"; go on with '{command}'" if command and Path(journal).exists() else ""


def _wait(child: int, signals: set[signal.Signals]) -> int:
    while True:
        arrived = signal.sigwaitinfo(signals)
        if arrived.si_signo != signal.SIGCHLD:
            if arrived.si_code != BY_KERNEL:
                os.kill(child, arrived.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return status


def explain(number: int, *, by_memory: bool, root: Path = Path("/")) -> str:
    """Say why a program was killed, and what to do."""
    if number != signal.SIGKILL:
        return f"the program was ended by {signal.Signals(number).name}: {signal.strsignal(number)}"
    if limits := memory_limits(root).values():
        limit = f"{min(limits) / 2**20:,.0f} MiB"
        if by_memory:
            return (
                f"the program ran out of memory, the limit here is {limit}; raise it (WORKLOAD_MEMORY in .env, "
                "dask_scheduler_workload_memory in the inventory), or leave results on the workers"
            )
        return f"the program was killed (SIGKILL), not for its memory limit of {limit}"
    if by_memory:
        return "the program ran out of memory; this machine has no more, leave results on the workers"
    return "the program was killed (SIGKILL)"


def memory_kills(root: Path = Path("/")) -> int:
    """Count the processes that the kernel has killed for want of memory, in this control group or on this machine."""
    for _name, folder in control_groups(root, "memory"):
        # Version 2, and version 1.
        for file in ("memory.events", "memory.oom_control"):
            if (count := _count(folder / file)) is not None:
                return count
    return _count(root / "proc/vmstat") or 0


def _count(file: Path) -> int | None:
    counts = dict(line.split(maxsplit=1) for line in text(file).splitlines() if " " in line)
    return int(counts["oom_kill"]) if "oom_kill" in counts else None
