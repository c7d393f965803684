"""Exits 0 if the process that serves in this container answers on HEALTH_PATH, or, a Dask one, is too busy to.

A task in one call of C that holds the interpreter's lock keeps the worker from answering, for minutes maybe, and is
work like any other: the process uses the processor then. One that neither answers nor computes is stuck.
"""

# What it imports costs more than what it does, every ten seconds in each container: no more than this.
import os
import socket
import sys
import time

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
    with socket.socket(socket.AF_UNIX if SOCKET else socket.AF_INET) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(SOCKET or ("127.0.0.1", PORT))
        connection.sendall(f"GET {PATH} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.makefile("rb").readline()
    # HTTP/1.0 200 OK
    if answer.split()[1:2] != [b"200"]:
        sys.exit(f"{WHERE}: it answers {answer.decode(errors='replace').strip()!r}")


def lines(table: str) -> list[list[str]]:
    """Give the words of each line of a table of /proc/net."""
    with open(f"/proc/net/{table}", encoding="utf-8") as file:
        return [line.split() for line in file][1:]


def sockets() -> set[str]:
    """Name what listens there, as links of open files have it."""
    if SOCKET:
        found = [words[6] for words in lines("unix") if words[7:] == [SOCKET] and words[3] == ACCEPTS]
    else:
        found = [
            words[9]
            for words in lines("tcp") + lines("tcp6")
            if words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == PORT
        ]
    return {f"socket:[{number}]" for number in found}


def listeners() -> list[int]:
    """Give the processes that listen there."""
    wanted, found = sockets(), []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if any(os.readlink(entry) in wanted for entry in os.scandir(f"/proc/{process}/fd")):
                found.append(int(process))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def ticks(process: int) -> int:
    """Give the processor time that it has used, in hundredths of a second."""
    with open(f"/proc/{process}/stat", encoding="utf-8") as file:
        # Its name, in brackets, may have blanks.
        words = file.read().rpartition(")")[2].split()
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
