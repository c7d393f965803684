"""What a call opens while it runs: its result may depend on that, and nobody sees when it changes.

Python tells of what it opens (`sys.addaudithook`); of what compiled libraries open by themselves, it does not know.
"""

import os
import re
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

#: Folders of the system, in which nothing is a user's data.
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
#: Code: what is imported is known by other ways, and tracebacks show lines of it.
_CODE = (".py", ".pyc", ".so", ".pyd", ".pth")
#: Where a worker has the files that go with a script: in a folder that is named by their content.
_SUBMITTED = re.compile(r"[/\\\\]submitted[/\\\\][0-9a-f]{32}[/\\\\]")
#: Programs that libraries ask about the machine.
_ABOUT_MACHINE = frozenset({"gcc", "ldconfig", "lscpu", "nproc", "sysctl", "uname"})
_PROGRAMS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"})
_CONNECTIONS = frozenset({"socket.connect", "sqlite3.connect"})

_thread = threading.local()


@contextmanager
def noted() -> Iterator[list[str]]:
    """Yield a list that takes what this thread opens inside, in words."""
    _install()
    before = getattr(_thread, "opened", None)
    found: list[str] = []
    _thread.opened = found
    try:
        yield found
    finally:
        _thread.opened = before


@cache
def _install() -> None:
    # It can't be removed.
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    found = getattr(_thread, "opened", None)
    # One is enough.
    if found is None or found:
        return
    if event == "open":
        if isinstance(arguments[0], str | bytes | os.PathLike):
            _thread.opened = None
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - it is called for each file
            _thread.opened = found
            if not _is_known(path):
                found.append(f"opens {path}")
    elif event in _PROGRAMS:
        program = os.path.basename(os.fsdecode(arguments[0])) if arguments and arguments[0] else ""  # noqa: PTH119
        if program not in _ABOUT_MACHINE:
            found.append(f"starts the program {program}")
    elif event in _CONNECTIONS:
        found.append("opens a connection")


def _is_known(path: str) -> bool:
    return path.startswith(_folders()) or path.endswith(_CODE) or bool(_SUBMITTED.search(path))


@cache
def _folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    python = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    libraries = {os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)}  # noqa: PTH118
    found = [*_SYSTEM, *libraries, *python, *site.getsitepackages()]
    return tuple(f"{folder}{os.sep}" for path in found for folder in {path, os.path.realpath(path)})
