"""What lets `run` and `submit` go on where they were: their journal, their options, and the command that does it."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritoncluster.cli import output, watch
from tritoncluster.errors import InputError

if TYPE_CHECKING:
    from tritoncluster.jobs import Job
    from tritoncluster.journal import Journal


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click alone
    """A number of bytes, as in 500m or 2g."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        from dask.utils import parse_bytes

        try:
            size = int(parse_bytes(value))
        except ValueError:
            size = -1
        if size < 0:
            self.fail(f"'{value}' is no size; write it as 500m or 2g", param, ctx)
        return size


def options() -> list[click.Parameter]:
    """Make the options."""
    return [
        click.Option(
            ["--resume", "resume_given"],
            metavar="DIR",
            help="Go on with the run whose folder this is: what it had finished is not computed again. An empty or new "
            "folder starts one.",
        ),
        click.Option(
            ["--journal-size"],
            type=_Size(),
            metavar="SIZE",
            help="Disk space for finished pieces, which a resumed run takes from there, as in 500m; 0 keeps none.  "
            "[default 1g]",
        ),
    ]


def folder_of(resume: str, jobs: "Sequence[Job]") -> Path:
    """Give the folder of a run to go on with.

    Raises
    ------
    InputError
        When it can't be written, or has the result of another run.
    """
    folder = output.checked_folder(Path(resume), "--resume")
    try:
        content = json.loads((folder / output.RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return folder
    from tritoncluster.record import plain

    parameters = {job.name: plain(asdict(job)) for job in jobs}  # type: ignore[call-overload]  # a dataclass
    before = content.get("parameters")
    if content.get("finished") and before != (parameters if len(jobs) > 1 else parameters[jobs[0].name]):
        raise InputError(f"--resume {folder} has the result of another run, which is finished; name another folder")
    return folder


def words(ctx: click.Context, folder: Path, *, resumed: bool) -> list[str]:
    """Give the words of the command line that goes on with this run.

    Parameters
    ----------
    ctx
        Of the command that runs.
    folder
        The run's.
    resumed
        Whether this command line says already what to go on with.
    """
    given = list(ctx.find_root().obj or ())
    if resumed:
        return given
    if ctx.command.name == "submit":
        # What follows the script is the script's.
        at = given.index("submit") + 1
        return [*given[:at], "--resume", str(folder), *given[at:]]
    kept: list[str] = []
    for word in given:
        if kept[-1:] == ["--output"]:
            kept.pop()
        elif not word.startswith("--output="):
            kept.append(word)
    return [*kept, "--resume", str(folder)]


@dataclass
class Resumable:
    """A run that can be gone on with.

    Parameters
    ----------
    path
        Of its journal; None when it has none.
    command
        What goes on with it.
    made
        Folders that are there for the journal alone, the innermost first.
    journal
        The journal, where it is this process's.
    """

    path: Path | None
    command: str
    made: Sequence[Path] = ()
    journal: "Journal | None" = None

    @property
    def about(self) -> str:
        """What the user should know of it while it runs."""
        folder = self.path.parent if self.path else None
        return f"What is finished is kept in {folder}; when this breaks off, go on with '{self.command}'"

    @property
    def advice(self) -> str:
        """How to go on, to be put behind a line on why it ended; "" when nothing is kept."""
        return f"; go on with '{self.command}'" if self.path is not None and self.path.exists() else ""

    def end(self, *, complete: bool) -> None:
        """Let go of the journal; `complete` when the run was not broken off."""
        if self.journal:
            self.journal.close(complete=complete)

    def forget(self) -> None:
        """Remove the journal, and its folder if nothing else is there."""
        if self.path:
            self.path.unlink(missing_ok=True)
            for folder in self.made:
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def resumable(
    folder: Path,
    words: Sequence[str],
    tell: Callable[[str], None],
    *,
    size: int | None,
    own_code: bool,
) -> Iterator[Resumable]:
    """Keep what a run finishes in its folder.

    Parameters
    ----------
    folder
        The run's.
    words
        Of the command line that goes on with it.
    tell
        Takes lines for the user.
    size
        Bytes that the journal may have; None for the default, 0 for no journal.
    own_code
        Whether the work is tritoncluster's own.
    """
    from tritoncluster.journal import LIMIT, Journal, in_use

    found = kept_elsewhere(folder, words, size=size)
    if found.path is None:
        yield found
        return
    found.journal = Journal(found.path, limit=size or LIMIT, tell=tell, about=found.about, own_code=own_code)
    try:
        with in_use(found.journal):
            yield found
    finally:
        found.end(complete=False)


def kept_elsewhere(folder: Path, words: Sequence[str], *, size: int | None) -> Resumable:
    """Give a run whose journal another process has; see `resumable` for the parameters."""
    from tritoncluster.journal import JOURNAL

    line = shlex.join(["tritoncluster", *words])
    if size == 0:
        return Resumable(None, line)
    path = folder / JOURNAL
    watch.note(path, line)
    return Resumable(path, line, [each for each in (folder, *folder.parents) if not each.exists()])
