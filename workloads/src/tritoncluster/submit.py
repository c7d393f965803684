"""A user's script on the cluster: `Client()` finds it, and the files that tasks need are on every worker."""

import importlib
import os
import runpy
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import dask.config
from distributed import Client, Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from tritoncluster.balance.joblib import register
from tritoncluster.errors import InputError
from tritoncluster.nodes import scheduler_address

#: The folder of a worker, below its local directory, that files are put into.
FOLDER = "submitted"


# In the process of a worker or a scheduler: file -> the scripts that brought it.
_users: dict[Path, set[str]] = {}


def _put(folder: Path, files: dict[str, bytes], script: str) -> None:
    """Write a script's files, and make the modules among them importable."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if _users.get(path) and path.read_bytes() != content:
            raise InputError(f"--with {name}: another script on this cluster has a different {name}; rename yours")
        path.write_bytes(content)
        _users.setdefault(path, set()).add(script)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def _remove(folder: Path, files: Iterable[str], script: str) -> None:
    """Remove the files that no other script has, and forget the modules that came from them."""
    for name in files:
        path = folder / name
        users = _users.get(path, set())
        users.discard(script)
        if not users:
            path.unlink(missing_ok=True)
            if getattr(sys.modules.get(path.stem), "__file__", None) == str(path):
                del sys.modules[path.stem]


def _scheduler_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"tritoncluster-{os.getpid()}" / FOLDER


def _put_on_scheduler(files: dict[str, bytes], script: str) -> None:
    _put(_scheduler_folder(), files, script)


def _remove_from_scheduler(files: list[str], script: str) -> None:
    _remove(_scheduler_folder(), files, script)


class SubmittedFiles(WorkerPlugin):
    """Puts files on every worker, also on those that come later, and makes modules among them importable.

    Two scripts that run at the same time can share a file. If theirs differ, the second one is refused: a worker
    process can import only one module of a name.

    Parameters
    ----------
    files
        Name -> content.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.name = f"submitted-files-{uuid4().hex}"

    def setup(self, worker: Worker) -> None:
        """Write the files."""
        _put(Path(worker.local_directory) / FOLDER, self.files, self.name)

    def teardown(self, worker: Worker) -> None:
        """Remove them."""
        _remove(Path(worker.local_directory) / FOLDER, self.files, self.name)


def local_path(name: str) -> Path:
    """Give the path of a file that was submitted with the script, on a worker as in the script itself."""
    try:
        return Path(get_worker().local_directory) / FOLDER / name
    except ValueError:  # not on a worker
        return Path(os.environ["TRITONCLUSTER_SUBMITTED"]) / name


def read_files(paths: Sequence[Path]) -> dict[str, bytes]:
    """Read the files that go with a script.

    Raises
    ------
    InputError
        When one can't be read, or two have the same name.
    """
    files: dict[str, bytes] = {}
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"--with {path} can't be read: {error.strerror}") from None
        if path.name in files:
            raise InputError(f"--with {path}: there is another file called {path.name}; rename one of them")
        files[path.name] = content
    return files


def run_script(client: Client, script: Path, arguments: Sequence[str], files: dict[str, bytes]) -> None:
    """Run a script as Python would, with `Client()` bound to the client's cluster.

    Raises
    ------
    InputError
        When a file differs from one of another script that runs at this time.
    BaseException
        Whatever the script raises, SystemExit among it.
    """
    plugin = SubmittedFiles(files)
    # A script may name the backend "balanced" without an import of ours.
    register()
    # The scheduler unpickles what `Client.map` is given. In this process it finds modules where the script does.
    embedded = client.cluster is not None
    old_arguments, old_path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    os.environ["TRITONCLUSTER_SUBMITTED"] = str(script.resolve().parent)
    try:
        if files:
            client.register_plugin(plugin)
            if not embedded:
                client.run_on_scheduler(_put_on_scheduler, files, plugin.name)
        with dask.config.set({"scheduler-address": scheduler_address(client)}):
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv, sys.path = old_arguments, old_path
        _close_others(client)
        if files and client.status == "running":
            client.unregister_worker_plugin(plugin.name)
            if not embedded:
                client.run_on_scheduler(_remove_from_scheduler, list(files), plugin.name)


def _close_others(client: Client) -> None:
    # A script seldom closes its client, which would complain when the embedded cluster ends.
    for other in list(Client._instances):  # noqa: SLF001 - distributed has no public list of clients
        if other is not client and scheduler_address(other) == scheduler_address(client):
            other.close()
