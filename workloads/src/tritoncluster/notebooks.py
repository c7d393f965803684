"""A notebook as a job: a kernel runs its cells, one after the other; what comes out is the notebook, and its page."""

import ast
import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tritoncluster.errors import InputError

#: What runs notebooks, of the extra "notebook".
NEEDED = ("ipykernel", "nbclient", "nbconvert")
#: Seconds that a kernel has to end what it does, once it is interrupted.
GRACE = 10.0
#: Seconds between looks at what the kernel has told.
LOOK = 0.5
#: What a kernel of ours loads; where it finds what is for it alone, and leaves lines for people.
EXTENSION, TOLD = "tritoncluster.kernel", "told.txt"


def is_one(script: str) -> bool:
    """Tell a notebook from a script by its name."""
    return Path(script).suffix == ".ipynb"


def can_run() -> bool:
    """Tell whether what runs them is installed."""
    return all(map(find_spec, NEEDED))


def cells(source: bytes, name: str) -> list[str]:
    """Give the code of a notebook's cells.

    Raises
    ------
    InputError
        When this is no notebook of a format that is in use, or not one of Python's.
    """
    try:
        content = json.loads(source)
        language = content["metadata"].get("kernelspec", {}).get("language", "python")
        found = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{name} can't be read as a notebook; open it in JupyterLab, and save it again") from None
    if language != "python":
        raise InputError(f"{name} is a notebook in {language}; only those in Python run here")
    return found


def imports(source: bytes, name: str) -> ast.Module:
    """Give the syntax of all cells together, as far as it is Python's: what a notebook imports.

    Raises
    ------
    InputError
        See `cells`.
    """
    tree = ast.Module([], [])
    for cell in cells(source, name):
        if cell.startswith("%%"):
            continue
        # What only IPython knows; a line of it may be all that a block has.
        lines = [_plain(line) for line in cell.splitlines()]
        with suppress(SyntaxError, ValueError):
            tree.body += ast.parse("\n".join(lines)).body
    return tree


def _plain(line: str) -> str:
    code = line.lstrip()
    return f"{line[: len(line) - len(code)]}pass" if code.startswith(("%", "!", "?")) or code.endswith("?") else line


@dataclass(frozen=True)
class Executed:
    """What came of a notebook.

    Parameters
    ----------
    content
        The notebook, with the output of what ran.
    broken
        Why it did not come to its end, in words; "" where it did.
    traceback
        Of the cell that failed, as text.
    interrupted
        Whether it was broken off by the user.
    """

    content: Any
    broken: str = ""
    traceback: str = ""
    interrupted: bool = False


def execute(
    path: Path,
    environment: Mapping[str, str],
    leave: Callable[[Path], None],
    tell: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> Executed:
    """Run a notebook in a kernel of its own, in its own folder.

    Parameters
    ----------
    path
        Of the notebook, which is left as it is.
    environment
        What the kernel has besides what this process has.
    leave
        Puts into a folder, whose path is the kernel's variable of `kernel.FOLDER`, what is for the kernel alone.
    tell
        Takes lines for the user that are not of the notebook.
    progress
        Takes a unit, how many are done, and of how many.

    Raises
    ------
    InputError
        When it can't be read.
    """
    import nbformat

    try:
        content = nbformat.read(path, as_version=4)
    except Exception as error:  # noqa: BLE001 - nbformat raises what json, jsonschema and its own parts raise
        raise InputError(f"{path} can't be read as a notebook: {error}") from None
    from tritoncluster.kernel import FOLDER

    with TemporaryDirectory(prefix="kernel-") as folder, _telling(Path(folder) / TOLD, tell):
        leave(Path(folder))
        # A job is the same for everybody: nobody's own settings, and no history.
        own = {FOLDER: folder, "IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder}
        if not os.access(Path.home(), os.W_OK):
            own["MPLCONFIGDIR"] = folder
        return _Run(content, path, Path(folder), {**os.environ, **environment, **own}, progress).result()


class _Run:
    """A kernel's life."""

    def __init__(
        self,
        content: Any,
        path: Path,
        folder: Path,
        environment: Mapping[str, str],
        progress: Callable[[str, int, int], None],
    ) -> None:
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient

        self._content, self._progress, self._environment = content, progress, environment
        self._total = sum(cell.cell_type == "code" for cell in content.cells)
        self._done = 0
        self._at = 0
        self._interrupted = False
        # Other programs of this machine can listen to what a port says.
        self._kernel = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=str(folder / "kernel.json")
        )
        self._client = NotebookClient(
            content,
            km=self._kernel,
            timeout=None,
            # Also after an error: what a kernel writes at its end is written.
            shutdown_kernel="graceful",
            resources={"metadata": {"path": str(path.absolute().parent)}},
            extra_arguments=[f"--IPKernelApp.extensions=['{EXTENSION}']", "--HistoryManager.enabled=False"],
            on_cell_execute=self._begins,
            on_cell_executed=self._ends,
        )

    def result(self) -> Executed:
        """Run all of it; an interruption ends the cell that runs."""
        # In another thread, where nbclient leaves the signals alone: it would kill the kernel.
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(asyncio.run, self._execute())
            while True:
                try:
                    return running.result()
                except KeyboardInterrupt:
                    self._interrupt(running)

    def _interrupt(self, running: "Future[Executed]") -> None:
        # The second time it is meant at once.
        number = signal.SIGKILL if self._interrupted else signal.SIGINT
        self._interrupted = True
        process = getattr(self._kernel.provisioner, "pid", None)
        if process and not running.done():
            with suppress(OSError):
                os.kill(process, number)

    async def _execute(self) -> Executed:
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        broken = traceback = ""
        try:
            # Its end is ours: it may have a journal to write.
            await self._client.async_execute(env=dict(self._environment), cleanup_kc=True)
        except CellExecutionError as error:
            broken = f"cell {self._at} failed: {error.ename}: {error.evalue}".rstrip(": ")
            traceback = _without_colours("\n".join(self._traceback()) or str(error))
        except DeadKernelError:
            broken = f"the kernel died in cell {self._at}"
        except _StoppedError:
            pass
        return Executed(
            self._content,
            "" if self._interrupted else broken,
            "" if self._interrupted else traceback,
            interrupted=self._interrupted,
        )

    def _traceback(self) -> list[str]:
        outputs = [output for cell in self._content.cells for output in cell.get("outputs", ())]
        return next((list(output.traceback) for output in reversed(outputs) if output.output_type == "error"), [])

    def _begins(self, cell_index: int, **_others: Any) -> None:
        if self._interrupted:
            raise _StoppedError
        self._at = sum(cell.cell_type == "code" for cell in self._content.cells[: cell_index + 1])

    def _ends(self, **_others: Any) -> None:
        self._done += 1
        self._progress("cells", self._done, self._total)


class _StoppedError(Exception):
    """No further cell is wanted."""


@contextmanager
def _telling(file: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Pass on lines as they are added to a file."""
    from threading import Event, Thread

    over, place = Event(), 0

    def look() -> None:
        nonlocal place
        with suppress(OSError), file.open("rb") as lines:
            lines.seek(place)
            while (line := lines.readline()).endswith(b"\n"):
                place += len(line)
                tell(line.decode(errors="replace").rstrip())

    def watch() -> None:
        while not over.wait(LOOK):
            look()

    thread = Thread(target=watch, name="kernel's lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def _without_colours(text: str) -> str:
    from nbconvert.filters import strip_ansi

    return str(strip_ansi(text))


def write_notebook(content: Any, path: Path) -> None:
    """Write an executed notebook."""
    import nbformat

    nbformat.write(content, path)


def write_page(content: Any, title: str, path: Path) -> None:
    """Write a notebook's page, in one file that asks nobody for anything."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", embed_images=True)
    # Formulas stay as they were written where there is no network.
    for name in exporter.trait_names():
        if name.endswith("_url"):
            setattr(exporter, name, "")
    body, _ = exporter.from_notebook_node(content, {"metadata": {"name": title}})
    path.write_text(body, encoding="utf-8")
