"""A user's script on the cluster: `Client()` finds it, and what tasks need is on every worker."""

import asyncio
import builtins
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import dask.config
from distributed import CancelledError, Client, get_worker
from distributed.client import ClosedClientError

from tritoncluster.balance import internals
from tritoncluster.balance.joblib import register
from tritoncluster.balance.reconnection import on_return
from tritoncluster.errors import ClusterLostError
from tritoncluster.imports import find_unit, on_path
from tritoncluster.journal import current
from tritoncluster.nodes import ask_scheduler, scheduler_address
from tritoncluster.program import Program, is_in, prepare
from tritoncluster.script_client import bound
from tritoncluster.spawning import keep_main_out_of_workers
from tritoncluster.submitted import SubmittedFiles, begin, end, find, missing
from tritoncluster.units import Unit

__all__ = ["FOLDERS", "Program", "advice", "local_path", "lost", "prepare", "run_program", "sent_along"]

#: Seconds for a worker to take or remove files; one that does not answer gets them when it does.
PATIENCE = 10.0
#: Bytes a second that a worker takes at least.
SLOWEST = 1e6
#: What a scheduler says that can't import what was sent to it.
UNREADABLE = "Error during deserialization of the task graph"
#: In the environment of a script and of the processes that it starts: the folders of what was submitted.
FOLDERS = "TRITONCLUSTER_SUBMITTED"


def local_path(name: str) -> Path:
    """Give the path of a file that was submitted with the script, on a worker as in the script itself.

    Parameters
    ----------
    name
        Of a file that was named by `--with`, or the path of one in a folder that was, as "folder/file.csv".

    Raises
    ------
    FileNotFoundError
        When there is none.
    """
    if path := find(name):
        return path
    try:
        get_worker()
    except ValueError:  # not in a task
        folders = os.environ.get(FOLDERS, str(Path(sys.argv[0]).resolve().parent)).split(os.pathsep)
        paths = [Path(folder) / name for folder in folders]
        return next((path for path in paths if path.exists()), paths[0])
    raise FileNotFoundError(f"{name} is not on this worker; submit the script with --with {name}")


def lost(client: Client, error: BaseException) -> ClusterLostError | None:
    """Give what to tell of a script's error when that is that the scheduler went away, None for any other."""
    chain = _chain(error)
    if ours := next((each for each in chain if isinstance(each, ClusterLostError)), None):
        return ours
    # The scheduler may be back already.
    if any(map(internals.is_of_lost_connection, chain)):
        return ClusterLostError("futures")
    connected = client.scheduler_comm is not None and not client.scheduler_comm.closed()
    if not connected and any(isinstance(each, (CancelledError, OSError, ClosedClientError)) for each in chain):
        return ClusterLostError("futures")
    return None


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while below := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(below)
    return chain


def advice(client: Client, program: Program, error: BaseException) -> str:
    """Say what to do about a script's error when it is a module that the cluster doesn't have, "" otherwise."""
    names = [each.name for each in _chain(error) if isinstance(each, ModuleNotFoundError) and each.name]
    if not names and any(UNREADABLE in str(each) for each in _chain(error)):
        answer = ask_scheduler(client, missing, sorted(program.imports), seconds=PATIENCE)
        names = answer if isinstance(answer, list) else []
    if not names:
        return ""
    name = names[0].partition(".")[0]
    if unit := find_unit(name, [*program.folders, *on_path()]):
        return f"the workers do not have {name}; add --with {os.path.relpath(unit.origin)}"
    if module := sys.modules.get(name):
        file = getattr(module, "__file__", None)
        where = f", which is {os.path.relpath(file)} here" if file else ""
        return f"the workers do not have {name}{where}; add --with and its file or folder, or install it there"
    try:
        installed = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        installed = None
    if installed:
        return f"the workers do not have {name}, which is installed here; install it there"
    return f"there is no {name} in the script's folder; if it is a file or folder elsewhere, add --with and its path"


def run_program(client: Client, program: Program, arguments: Sequence[str], tell: Callable[[str], None]) -> None:
    """Run a script as Python would, with `Client()` bound to the client's cluster.

    Parameters
    ----------
    client
        Of the cluster; the script's files are on it while it lives.
    program
        The script.
    arguments
        What the script is given.
    tell
        Takes lines for the user.

    Raises
    ------
    InputError
        When a file differs from one of another script that runs at this time. Nothing has run.
    BaseException
        Whatever the script raises, SystemExit among it.
    """
    # A script may name the backend "balanced" without an import of ours, and have a LocalCluster of its own.
    register()
    keep_main_out_of_workers()
    with (
        sent_along(client, program, tell) as sent,
        dask.config.set({"scheduler-address": scheduler_address(client)}),
        bound(tell),
        _as_main(program, arguments) as main,
    ):
        sys.meta_path.insert(0, sent)
        try:
            # In a context of its own, as a program has it: in this one, Dask's current client is the one that `with`
            # names, whatever clients the script makes.
            Context().run(exec, program.code, main.__dict__)
        finally:
            if sent in sys.meta_path:
                sys.meta_path.remove(sent)


@contextmanager
def sent_along(client: Client, program: Program, tell: Callable[[str], None]) -> Iterator[MetaPathFinder]:
    """Have on the cluster what goes along with a script; give what finds more of it, as the script imports it.

    Raises
    ------
    InputError
        When a file differs from one of another script that runs at this time.
    """
    sent = _Sent(client, program, tell)
    try:
        sent.send(list(program.units.values()))
        yield sent
    finally:
        _close_others(client)
        sent.remove()


class _Sent(MetaPathFinder):
    """What is on the cluster; it also sends what reading the code did not find, when the script imports it."""

    def __init__(self, client: Client, program: Program, tell: Callable[[str], None]) -> None:
        self._client, self._program, self._tell = client, program, tell
        #: What is there, and what puts it onto no other scheduler any more.
        self._units: list[Unit] = []
        self._stay: Callable[[], None] | None = None
        #: Modules that are there or were looked for.
        self._names = set(sys.modules)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Find nothing, but see what is looked for."""
        can_send = self._client.status == "running" and not _in_loop_of(self._client)
        if path is None and fullname not in self._names and can_send:
            self._names.add(fullname)
            folders = [*self._program.folders, *on_path()]
            if unit := find_unit(fullname, folders):
                self.send([unit])
        return None

    def send(self, units: Sequence[Unit]) -> None:
        if not units:
            return
        self._names |= {unit.module for unit in units}
        if journal := current():
            journal.add_files(units)
        if self._stay is None:
            self._stay = on_return(self._client, self._send_again)
        self._units += units
        seconds = _seconds(units)
        elsewhere = self._client.cluster is None
        late = ask_scheduler(
            self._client, begin, SubmittedFiles(units), self._client.id, seconds, elsewhere, seconds=3 * seconds
        )
        if isinstance(late, Exception):
            raise late
        if late:
            names = ", ".join(unit.name for unit in units)
            self._tell(f"{', '.join(late)} did not answer within {seconds:.0f} s, and will get {names} when it does")

    async def _send_again(self) -> None:
        # Under another name: where the same scheduler is still there, it removes what the lost connection had.
        seconds = _seconds(self._units)
        plugin, elsewhere = SubmittedFiles(self._units), True
        sending = self._client.run_on_scheduler(begin, plugin, self._client.id, seconds, elsewhere)
        await asyncio.wait_for(sending, 3 * seconds)

    def remove(self) -> None:
        if self._stay:
            self._stay()
        if self._units and self._client.status == "running":
            # What can't be removed now, the scheduler removes when it has lost the client.
            ask_scheduler(self._client, end, self._client.id, PATIENCE, seconds=2 * PATIENCE)


def _seconds(units: Sequence[Unit]) -> float:
    """Give how long a worker may take to get files."""
    return PATIENCE + sum(len(content) for unit in units for content in unit.files.values()) / SLOWEST


def _in_loop_of(client: Client) -> bool:
    try:
        return asyncio.get_running_loop() is client.loop.asyncio_loop  # type: ignore[union-attr]
    except RuntimeError:
        return False


@contextmanager
def _as_main(program: Program, arguments: Sequence[str]) -> Iterator[ModuleType]:
    """Make what Python has when it runs a script: its module, its arguments, its folder first on the path."""
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __spec__=None)
    if program.file != "<stdin>":
        main.__file__ = program.file
    own = program.own_folders
    old_main, old_argv, old_path, old_modules = sys.modules["__main__"], sys.argv, sys.path[:], set(sys.modules)
    sys.modules["__main__"] = main
    sys.argv = [program.name, *arguments]
    sys.path[:0] = own[:1]
    sys.path += own[1:]
    os.environ[FOLDERS] = os.pathsep.join(own)
    try:
        yield main
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = old_main, old_argv, old_path
        del os.environ[FOLDERS]
        for name in set(sys.modules) - old_modules:
            if is_in(sys.modules[name], program.folders):
                del sys.modules[name]


def _close_others(client: Client) -> None:
    # A script seldom closes its client, which would complain when the embedded cluster ends.
    for other in list(Client._instances):  # noqa: SLF001 - distributed has no public list of clients
        if other is not client and scheduler_address(other) == scheduler_address(client):
            other.close()
