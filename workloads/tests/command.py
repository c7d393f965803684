"""The command line as a user has it: in a process of its own, in a terminal where that matters."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMAND = [sys.executable, "-m", "tritoncluster"]


def tritoncluster(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@dataclass
class Interrupted:
    """How a command in a terminal took Ctrl-C; `left` are processes that it started and that are still there."""

    output: str
    status: int
    seconds: float
    left: list[psutil.Process]


def interrupt(folder: Path, *arguments: str, when: str) -> Interrupted:
    """Run a command in a terminal and press Ctrl-C once its output matches the pattern `when`."""
    pid, terminal = pty.fork()
    if pid == 0:
        # Whoever started the tests in the background had Ctrl-C ignored, and that is inherited.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(folder)
        os.execv(COMMAND[0], [*COMMAND, *arguments])  # noqa: S606 - the point of forking into a terminal
    output, pressed = "", 0.0
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                output += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
        if not pressed and re.search(when, output):
            started = psutil.Process(pid).children(recursive=True)
            os.write(terminal, b"\x03")
            pressed = time.monotonic()
    else:
        # It hangs; whoever waits for it would, too.
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert pressed, f"{when} never appeared in: {output}"
    seconds = time.monotonic() - pressed
    _, left = psutil.wait_procs(started, timeout=5)
    return Interrupted(output, os.waitstatus_to_exitcode(status), seconds, left)
