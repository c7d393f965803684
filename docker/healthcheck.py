"""Exits 0 if the process that serves in this container answers on HEALTH_PATH, or, a Dask one, is too busy to.

A task in one call of C that holds the interpreter's lock keeps the worker from answering, for minutes maybe, and is
work like any other: the process uses the processor then. One that neither answers nor computes is stuck.
"""

import http.client
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator

#: Where it listens: on a port, or on a socket in a folder.
PORT, SOCKET = int(os.environ.get("HEALTH_PORT", "8788")), os.environ.get("HEALTH_SOCKET", "")
PATH = os.environ.get("HEALTH_PATH", "/health")
WHERE = SOCKET or f"port {PORT}"
#: Seconds to wait for an answer, and then to watch the process; with Python's start less than the check's ten.
PATIENCE, WATCH = 5, 2
#: Hundredths of a second that count as computing: threads that wait for the lock look for it now and then.
LEAST = 2
#: A port that is listened to, and a socket, as /proc/net has them.
LISTENS, ACCEPTS = "0A", "00010000"


def answers() -> None:
    """Ask; raise TimeoutError when there is no answer, and exit when there is a wrong one."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
    if SOCKET:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(SOCKET)
    connection.request("GET", PATH)
    status = connection.getresponse().status
    if status != http.HTTPStatus.OK:
        sys.exit(f"{WHERE}: HTTP status {status}")


def sockets() -> set[str]:
    """Name what listens there, as links of open files have it."""
    found = set()
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if SOCKET and words[7:] == [SOCKET] and words[3] == ACCEPTS:
            found.add(f"socket:[{words[6]}]")
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if not SOCKET and words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == PORT:
                found.add(f"socket:[{words[9]}]")
    return found


def listeners() -> Iterator[pathlib.Path]:
    """Give the processes that listen there."""
    wanted = sockets()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if wanted & {str(link.readlink()) for link in (process / "fd").iterdir()}:
                yield process
        except OSError:  # ended meanwhile, or another user's
            continue


def ticks(process: pathlib.Path) -> int:
    """Give the processor time that it has used, in hundredths of a second."""
    # Its name, in brackets, may have blanks.
    words = (process / "stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def computes() -> bool:
    """Tell whether a process that listens there uses the processor."""
    before = {process: ticks(process) for process in listeners()}
    time.sleep(WATCH)
    return any(ticks(process) - count >= LEAST for process, count in before.items())


def main() -> None:
    """Exit with the answer."""
    try:
        answers()
    except TimeoutError:
        if not computes():
            sys.exit(f"{WHERE}: no answer in {PATIENCE} s, and no use of the processor")
        print(f"{WHERE}: busy")
    except OSError as error:
        sys.exit(f"{WHERE}: {error}")


if __name__ == "__main__":
    main()
