"""How the worker processes of an embedded cluster start: soon, and without the program that starts them."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.spawn
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
import distributed.utils

#: What Dask's nannies call the processes that they start.
WORKER_PROCESS = "Dask Worker process (from Nanny)"
#: What a worker imports before it takes work.
IMPORTED = ("distributed", "distributed.dashboard.worker", "tritoncluster.preload")
#: Dask's setting for how its nannies start processes.
_METHOD = "distributed.worker.multiprocessing-method"


class _ForkServer:
    """A process that has imported what workers import, and is forked for each; there is one in a program.

    A worker that starts by itself is busy with imports for four seconds of processor time, and so is each of the others
    beside it. The copies of one process need a tenth of a second each, and share its memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._method = ""
        self._environment: dict[str, str] | None = None
        self._names: set[str] = set()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have Dask's nannies use it meanwhile, unless something speaks against it."""
        with self._lock:
            if not self._users:
                self._method = dask.config.get(_METHOD)
                if self.ready():
                    dask.config.set({_METHOD: "forkserver"})
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    dask.config.set({_METHOD: self._method})

    def ready(self) -> bool:
        """Start it where there is none, and tell whether its copies are what spawned processes would be."""
        # Elsewhere a process that has loaded the system's libraries can't be forked safely.
        if sys.platform != "linux" or self._method != "spawn":
            return False
        wanted = _environment()
        if self._environment is None:
            try:
                self._start(wanted)
            except OSError:  # as where the name of the folder for temporary files is too long for a socket
                return False
            self._environment, self._names = wanted, {*os.environ}
        # Numerical libraries look at these when they are imported. A nanny hands on all others, but takes none away.
        return wanted == self._environment and self._names <= os.environ.keys()

    def _start(self, environment: dict[str, str]) -> None:
        # As Dask's nannies do before they start a process. The number for hashes is theirs, too.
        os.environ.setdefault("PYTHONHASHSEED", "6640")
        os.environ.update(environment)
        # Dask would have it import all packages that Dask knows, and import them here first.
        distributed.utils._forkserver_preload_set = True  # noqa: SLF001 - without it, starting only takes longer
        multiprocessing.set_forkserver_preload(list(IMPORTED))
        # A terminal sends Ctrl-C to all processes of a program. This one, while it imports, would print where it was.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    before_start = dask.config.get("distributed.nanny.pre-spawn-environ")
    return {name: os.environ.get(name, str(value)) for name, value in before_start.items() if value is not None}


fork_server = _ForkServer()


def keep_main_out_of_workers() -> None:
    """Let workers that this process starts do without its `__main__`; once is enough.

    A process that Python spawns runs the program's script first, as `__mp_main__`, in order to find its functions. For
    a worker that means a second run of whatever the script does, each time that a nanny starts one, and a script
    without `if __name__ == "__main__"` starts a cluster within the cluster. Dask's workers have no use for it: what is
    defined in `__main__` comes to them by value.
    """
    prepare = multiprocessing.spawn.get_preparation_data
    if hasattr(prepare, "__wrapped__"):
        return

    def without_main(name: str) -> dict[str, Any]:
        data = prepare(name)
        if name == WORKER_PROCESS:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    without_main.__wrapped__ = prepare  # type: ignore[attr-defined]
    multiprocessing.spawn.get_preparation_data = without_main
