"""`tritoncluster submit SCRIPT`."""

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritoncluster import notebooks
from tritoncluster.cli import EXIT_FAILED, EXIT_INTERRUPTED, detach, notebook, output, resume, say, terminal
from tritoncluster.cli.options import named, wait_option, weight_option, weighted
from tritoncluster.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

    from tritoncluster.submit import Program


@click.command(
    params=[*detach.options(), weight_option(), wait_option(), *resume.options()],
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--with",
    "with_paths",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A data file or a folder that the script's tasks need; may be given several times. Tasks find data with "
    "tritoncluster.submit.local_path(NAME). Modules and packages in the script's own folder need not be named, others "
    "can be, and are then found by the script too.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes of the embedded cluster.")
@click.option("--threads-per-worker", type=click.IntRange(min=1), help="Threads of each of them.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def submit(
    with_paths: tuple[Path, ...],
    script: str,
    arguments: tuple[str, ...],
    workers: int | None,
    threads_per_worker: int | None,
    weight: float | None,
    resume_given: str | None,
    journal_size: int | None,
    **detached: Any,
) -> int:
    """Run SCRIPT with ARGS; Client() in it is the cluster.

    The script itself runs here, once, its tasks run on the workers. Its standard output is left to it, and its exit
    status is that of the command. SCRIPT is - for what comes on standard input, or a notebook, NAME.ipynb: as it is
    after its last cell, it is then in the run's folder, with its page.
    """
    if script != "-" and not Path(script).is_file():
        raise InputError(f"there is no script {script} that can be read; give the path of a Python file")
    if notebooks.is_one(script) and arguments:
        raise InputError(f"a notebook takes no arguments: leave out {' '.join(arguments)}, or write them into a cell")
    from tritoncluster.submit import prepare

    try:
        program = prepare(script, with_paths)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # As Python does: no frame of ours is any help.
        traceback.print_exception(error.with_traceback(None))
        return EXIT_FAILED
    unsuited = {
        "--workers": workers,
        "--threads-per-worker": threads_per_worker,
        "--resume": resume_given,
        "--journal-size": journal_size,
    }
    asked = (program, script, with_paths, arguments, weight)
    if detach.leave(detached, unsuited, lambda: detach.script_request(*asked)):
        return 0
    name = "script" if script == "-" else Path(script).stem
    folder = output.checked_folder(Path(resume_given), "--resume") if resume_given else output.new_folder(name)
    words = resume.words(click.get_current_context(), folder, resumed=bool(resume_given))
    console = terminal.console(as_json=True)
    if notebooks.is_one(script):
        notebook.check(Path(script), folder)
        resumable = resume.kept_elsewhere(folder, words, size=journal_size)
        with (
            weighted(weight),
            named(f"submit-{name}"),
            terminal.connected(console, workers=workers, threads_per_worker=threads_per_worker) as client,
        ):
            return notebook.run(
                client,
                program,
                folder,
                resumable,
                console,
                say,
                journal_size=journal_size,
                resumed=bool(resume_given),
            )
    with (
        weighted(weight),
        named(f"submit-{name}"),
        resume.resumable(folder, words, say, size=journal_size, own_code=False) as resumable,
        terminal.connected(console, workers=workers, threads_per_worker=threads_per_worker) as client,
    ):
        status, why = _run(client, program, arguments)
        resumable.end(complete=not why)
        if status and resumable.advice:
            say(f"{why or f'the script ended with exit status {status}'}{resumable.advice}")
        elif why:
            say(why)
        elif not status and not resume_given:
            resumable.forget()
    return status


def _run(client: "Client", program: "Program", arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a script; give its exit status, and in words what broke it off."""
    from tritoncluster.submit import lost, run_program

    try:
        run_program(client, program, arguments, say)
    except SystemExit as end:
        return _exit_status(end), ""
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, "interrupted"
    except Exception as error:
        if not _frames(program, error):
            raise
        if gone := lost(client, error):
            return EXIT_FAILED, str(gone)
        _show_error(client, program, error)
        return EXIT_FAILED, ""
    return 0, ""


def _exit_status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    click.echo(str(end.code), err=True)
    return EXIT_FAILED


def _frames(program: "Program", error: BaseException) -> Any:
    """Give the traceback from the script's first frame on, None if there is none of it."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code is not program.code:
        frames = frames.tb_next
    return frames


def _show_error(client: "Client", program: "Program", error: Exception) -> None:
    # The user's own frames: what called the script is of no use to them.
    sys.stdout.flush()
    sys.excepthook(type(error), error.with_traceback(_frames(program, error)), error.__traceback__)
    from tritoncluster.submit import advice

    if line := advice(client, program, error):
        say(line)
