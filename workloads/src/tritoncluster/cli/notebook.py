"""`tritoncluster submit NOTEBOOK.ipynb`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tritoncluster import notebooks
from tritoncluster.cli import EXIT_FAILED, EXIT_INTERRUPTED, output, terminal, watch
from tritoncluster.errors import InputError

if TYPE_CHECKING:
    from distributed import Client
    from rich.console import Console

    from tritoncluster.cli.resume import Resumable
    from tritoncluster.submit import Program


def check(path: Path, folder: Path) -> None:
    """Refuse what can't end well, before anything has begun.

    Raises
    ------
    InputError
        When notebooks can't be run here, or the run's folder has the notebook itself.
    """
    if not notebooks.can_run():
        raise InputError(
            "what runs notebooks is not installed here: use the notebook's image, or install tritoncluster[notebook]"
        )
    if folder.resolve() == path.resolve().parent:
        raise InputError(f"--resume {folder} has the notebook itself, which would be overwritten; name another folder")


def run(
    client: "Client",
    program: "Program",
    folder: Path,
    resumable: "Resumable",
    console: "Console",
    tell: Callable[[str], None],
    *,
    journal_size: int | None,
    resumed: bool,
) -> int:
    """Run a notebook on a cluster; what came of it is in the run's folder, also where it failed.

    Parameters
    ----------
    client
        Of the cluster.
    program
        The notebook.
    folder
        The run's.
    resumable
        What goes on with it.
    console
        For how far it is.
    tell
        Takes lines for the user.
    journal_size
        Bytes that the journal may have; None for the default.
    resumed
        Whether the user has named the folder: the journal stays then.

    Returns
    -------
    int
        The command's exit status.
    """
    from tritoncluster.journal import LIMIT
    from tritoncluster.kernel import Submitted
    from tritoncluster.submit import sent_along

    path = Path(program.name)
    journal = resumable.path.absolute() if resumable.path else None
    submitted = Submitted(journal, journal_size or LIMIT, resumable.about, list(program.units.values()))
    killed = watch.memory_kills()
    with sent_along(client, program, tell), terminal.ProgressDisplay(console, path.name) as progress:
        found = notebooks.execute(path, _environment(client, program), submitted.leave, tell, progress)
    _write(found, path, folder)
    if found.traceback:
        console.print(found.traceback, markup=False)
    tell(f"the notebook{'' if not found.broken else ', as far as it came,'} is in {folder / path.name}")
    if found.interrupted:
        tell(f"interrupted{resumable.advice}")
        return EXIT_INTERRUPTED
    if found.broken:
        memory = ": the memory here was full" if watch.memory_kills() > killed else ""
        tell(f"{found.broken}{memory}{resumable.advice}")
        return EXIT_FAILED
    if not resumed:
        resumable.forget()
    return 0


def _environment(client: "Client", program: "Program") -> dict[str, str]:
    """Give what lets a program find the cluster, with all that this command was told of it."""
    import dask.config

    from tritoncluster.nodes import scheduler_address
    from tritoncluster.submit import FOLDERS

    return {
        # As Dask's own processes get it; what has a variable of its own, that decides.
        "DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config),
        "DASK_SCHEDULER_ADDRESS": scheduler_address(client),
        FOLDERS: os.pathsep.join(program.own_folders),
    }


def _write(found: "notebooks.Executed", path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    output.replace(folder / path.name, lambda new: notebooks.write_notebook(found.content, new))
    output.replace(folder / output.REPORT, lambda new: notebooks.write_page(found.content, path.stem, new))
