"""Files of submitted scripts, in the processes of the scheduler and the workers.

A script's modules are found by name here, and nothing else is: a folder on `sys.path` would let a submitted `queue.py`
stand for Python's own in every later import. Files are kept by what is in them: the next script, or another one at the
same time, never meets those of this one under a name of its own.
"""

import asyncio
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from distributed import Scheduler, Worker
from distributed.core import Status, clean_exception
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.protocol import Serialized, deserialize, pickle

from tritoncluster.errors import InputError
from tritoncluster.units import Unit

#: The folder of a worker, below its local directory, that files are put into.
FOLDER = "submitted"


@dataclass
class _Place:
    """Where a unit is, in this process."""

    unit: Unit
    digest: str
    folder: Path
    users: set[str]


class _Finder(MetaPathFinder):
    """Finds the modules of submitted scripts, and no others."""

    def __init__(self) -> None:
        #: Unit's name -> where it is.
        self.places: dict[str, _Place] = {}
        #: Name of a module -> the folder to look for it in.
        self.modules: dict[str, Path] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = None if path else self.modules.get(fullname)
        return PathFinder.find_spec(fullname, [str(folder)], target) if folder else None

    def put(self, base: Path, unit: Unit, script: str) -> None:
        """Write a unit's files, and make its module importable.

        Raises
        ------
        InputError
            When there is an installed module of that name.
        """
        place = self.places.get(unit.name)
        if place and place.digest == unit.digest:
            place.users.add(script)
            return
        if unit.module and _is_installed(unit):
            if unit.yields:
                return
            raise InputError(
                f"{unit.name}: the cluster's Python has a module called {unit.module} of its own; rename yours"
            )
        if place:
            # The scheduler does not let two that run have different ones: this is of one that has ended.
            self._drop(place)
        folder = base / unit.digest
        for name, content in unit.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.places[unit.name] = _Place(unit, unit.digest, folder, {script})
        if unit.module:
            _forget(unit.module)
            self.modules[unit.module] = folder
        if self not in sys.meta_path:
            # First: a folder of that name anywhere on the path would be a namespace package. No installed module can be
            # hidden, see above.
            sys.meta_path.insert(0, self)
        importlib.invalidate_caches()

    def remove(self, script: str) -> None:
        """Remove what only this script used."""
        for place in list(self.places.values()):
            place.users.discard(script)
            if not place.users:
                self._drop(place)

    def _drop(self, place: _Place) -> None:
        del self.places[place.unit.name]
        if place.unit.module:
            self.modules.pop(place.unit.module, None)
            _forget(place.unit.module)
        shutil.rmtree(place.folder, ignore_errors=True)


_finder = _Finder()


def _is_installed(unit: Unit) -> bool:
    if unit.module in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(unit.module)
    except ValueError:  # a module that was made by hand
        return True
    # A folder without a module of its own is anything; and embedded workers may see the file itself.
    if spec is None or spec.origin is None or unit.module in _finder.modules:
        return False
    return not Path(spec.origin).is_relative_to(unit.origin)


def _forget(module: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        del sys.modules[name]


def find(name: str) -> Path | None:
    """Give the path of a file that was submitted, where this process has it."""
    place = _finder.places.get(Path(name).parts[0])
    return place.folder / name if place else None


def missing(names: Iterable[str]) -> list[str]:
    """List the modules that can't be imported in this process."""
    return [name for name in names if name not in sys.modules and importlib.util.find_spec(name) is None]


class SubmittedFiles(WorkerPlugin):
    """Puts the files of a script on every worker, also on those that come later.

    Parameters
    ----------
    units
        What to put there.
    """

    def __init__(self, units: Iterable[Unit]) -> None:
        self.units = tuple(units)
        self.name = f"submitted-files-{uuid4().hex}"

    def setup(self, worker: Worker) -> None:
        """Write them."""
        for unit in self.units:
            _finder.put(Path(worker.local_directory) / FOLDER, unit, self.name)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Remove them."""
        _finder.remove(self.name)


class Submission(SchedulerPlugin):
    """What the scheduler knows of a script that runs; it ends with the script's client, however that ends.

    Parameters
    ----------
    plugin
        What puts the script's files on workers.
    client
        Identity of its client.
    """

    def __init__(self, plugin: SubmittedFiles, client: str) -> None:
        self.client = client
        self.name, self.on_workers = f"{plugin.name}-on-scheduler", plugin.name
        #: Unit's name -> what it is imported as, and what stands for its content: the files can be large.
        self.units = {unit.name: (unit.module, unit.digest) for unit in plugin.units}
        self._questions: set[asyncio.Task[Any]] = set()

    async def begin(
        self, scheduler: Scheduler, plugin: SubmittedFiles, seconds: float, *, elsewhere: bool
    ) -> list[str]:
        """Put the files on the workers, and the modules among them into this process if it is not the script's.

        Returns
        -------
        list
            Names of the workers that have not answered within `seconds`; they get the files as soon as they do.

        Raises
        ------
        InputError
            When another script has a different file of that name, or a module of that name is installed.
        """
        self._refuse_different(scheduler)
        scheduler.add_plugin(self, name=self.name)
        try:
            if elsewhere:
                # The scheduler unpickles what `Client.map` is given.
                for unit in filter(lambda unit: unit.module, plugin.units):
                    _finder.put(_scheduler_folder(), unit, self.name)
            pickled = pickle.dumps(plugin)
            scheduler.worker_plugins[self.on_workers] = pickled
            return await self._ask(scheduler, seconds, "plugin-add", plugin=pickled, name=self.on_workers)
        except InputError:
            await self.end(scheduler, seconds)
            raise

    async def end(self, scheduler: Scheduler, seconds: float) -> None:
        """Remove the files everywhere."""
        if self.name not in scheduler.plugins:
            return
        scheduler.remove_plugin(self.name)
        scheduler.worker_plugins.pop(self.on_workers, None)
        _finder.remove(self.name)
        for question in self._questions - {asyncio.current_task()}:
            question.cancel()
        if scheduler.status == Status.running:
            await self._ask(scheduler, seconds, "plugin-remove", name=self.on_workers)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """End with the client."""
        if client == self.client:
            self._keep(asyncio.ensure_future(self.end(scheduler, seconds=60)))

    def _refuse_different(self, scheduler: Scheduler) -> None:
        for other in scheduler.plugins.values():
            if not isinstance(other, Submission) or other.client == self.client:
                continue
            for name, (module, digest) in self.units.items():
                for theirs, (their_module, their_digest) in other.units.items():
                    if (name == theirs or (module and module == their_module)) and digest != their_digest:
                        raise InputError(
                            f"{name}: another script on this cluster has a different {theirs}; rename yours, or wait "
                            "until it has ended"
                        )

    async def _ask(self, scheduler: Scheduler, seconds: float, question: str, **arguments: Any) -> list[str]:
        asked = {
            self._keep(asyncio.ensure_future(getattr(scheduler.rpc(address), question)(**arguments))): worker.name
            for address, worker in scheduler.workers.items()
        }
        if not asked:
            return []
        done, late = await asyncio.wait(asked, timeout=seconds)
        for task in done:
            # A worker that went away has no files either.
            if not task.cancelled() and not task.exception() and (task.result() or {}).get("status") == "error":
                error = task.result()["exception"]
                if isinstance(error, Serialized):  # the scheduler leaves what passes through it as it is
                    error = deserialize(error.header, error.frames)
                error = clean_exception(error, None)[1]
                if isinstance(error, InputError):
                    raise error
        return sorted(str(asked[task]) for task in late)

    def _keep(self, task: "asyncio.Future[Any]") -> "asyncio.Task[Any]":
        self._questions.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._questions.discard)
        return task  # type: ignore[return-value]


def _scheduler_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"tritoncluster-{os.getpid()}" / FOLDER


async def begin(
    plugin: SubmittedFiles,
    client: str,
    seconds: float,
    elsewhere: bool,  # noqa: FBT001 - questions have no keywords
    dask_scheduler: Scheduler,
) -> list[str]:
    """Do `Submission.begin` on the scheduler."""
    return await Submission(plugin, client).begin(dask_scheduler, plugin, seconds, elsewhere=elsewhere)


async def end(client: str, seconds: float, dask_scheduler: Scheduler) -> None:
    """Do `Submission.end` for all that the client has submitted."""
    for plugin in list(dask_scheduler.plugins.values()):
        if isinstance(plugin, Submission) and plugin.client == client:
            await plugin.end(dask_scheduler, seconds)
