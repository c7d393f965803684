"""The processes of a job: started so that none outlives the service, found by a mark in their environment."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tritoncluster.service.model import MARK

SET_PARENT_DEATH_SIGNAL = 1
#: What the kernel ends first when memory is short: a job, not the service.
FIRST_TO_GO = b"500"

_C = ctypes.CDLL(None)


def start(
    command: Sequence[str], *, mark: str, folder: Path, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, which ends with this process, however that ends.

    Parameters
    ----------
    command, folder, environment
        What, where and with what; from the main thread, which the program ends with.
    mark
        By which `processes` finds it, and what it starts.
    log
        File that all it prints is appended to.
    """
    parent = os.getpid()

    def prepare() -> None:
        _C.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)
        with suppress(OSError):
            descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(descriptor, FIRST_TO_GO)

    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # System calls alone: other threads may hold locks.
            preexec_fn=prepare,  # noqa: PLW1509
        )


def processes(mark: str) -> Iterator[Path]:
    """Give the folders in /proc of this user's processes that have `mark`, or one that begins with it and a slash."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if any(each == wanted or each.startswith(wanted + b"/") for each in variables):
                yield process


def signal_all(mark: str, number: signal.Signals) -> int:
    """Send a signal to all processes that have a mark; give how many there were."""
    found = 0
    for process in processes(mark):
        # Its number may be another process's a moment later: what is opened now stays this one, and is asked again.
        with suppress(OSError):
            descriptor = os.pidfd_open(int(process.name))
            try:
                if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                    signal.pidfd_send_signal(descriptor, number)
                    found += 1
            finally:
                os.close(descriptor)
    return found


def memory(mark: str) -> int:
    """Give the bytes that the processes with a mark have in memory; what several share counts once."""
    return sum(map(_share, processes(mark)))


def _share(process: Path) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
