"""`tritoncluster submit SCRIPT`."""

import os
import sys
import traceback
from pathlib import Path

import click

from tritoncluster.cli import EXIT_FAILED, terminal
from tritoncluster.errors import InputError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--with",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A module or data file that the script's tasks need; may be given several times. Tasks import modules by "
    "name, and find data with tritoncluster.submit.local_path(NAME).",
)
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes of the embedded cluster.")
@click.option("--threads-per-worker", type=click.IntRange(min=1), help="Threads of each of them.")
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def submit(
    files: tuple[Path, ...],
    script: Path,
    arguments: tuple[str, ...],
    workers: int | None,
    threads_per_worker: int | None,
) -> int:
    """Run SCRIPT with ARGS; Client() in it is the cluster.

    The script itself runs here, its tasks run on the workers. Its standard output is left to it.
    """
    if not script.is_file() or not os.access(script, os.R_OK):
        raise InputError(f"there is no script {script} that can be read; give the path of a Python file")
    from tritoncluster.submit import read_files, run_script

    contents = read_files(files)
    with terminal.connected(
        terminal.console(as_json=True), workers=workers, threads_per_worker=threads_per_worker
    ) as client:
        try:
            run_script(client, script, arguments, contents)
        except SystemExit as end:
            return _exit_status(end)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - it is the user's, who wants to see all of it
            _show_error(script, error)
            return EXIT_FAILED
    return 0


def _exit_status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    click.echo(str(end.code), err=True)
    return EXIT_FAILED


def _show_error(script: Path, error: Exception) -> None:
    # The user's own frames: what called the script is of no use to them.
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename != str(script):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames or error.__traceback__, file=sys.stderr)
    if isinstance(error, ModuleNotFoundError) and error.name and (script.parent / f"{error.name}.py").exists():
        name = script.parent / f"{error.name}.py"
        click.echo(f"tritoncluster: the workers do not have {error.name}; add --with {name}", err=True)
