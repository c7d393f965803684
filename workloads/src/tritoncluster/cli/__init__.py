"""The command line. Nothing else in the package prints.

What a command needs is imported when it runs: `tritoncluster --help` does not wait for scikit-learn.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tritoncluster.cli.interrupts import interruptible
from tritoncluster.errors import ClusterUnusableError, InputError
from tritoncluster.service.model import MARK

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
#: Of a job of the jobs service for which the cluster is not there: it is tried again. EX_TEMPFAIL of sysexits.h.
EXIT_LATER = 75
#: Commands that take memory on this machine.
WATCHED = ("run", "compare", "submit")


class Lazy(click.Group):
    """A group whose commands live in modules that are imported when one is used."""

    def __init__(self, *args: Any, modules: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Name -> module of this package that has a command of that name (with _ for -), and its line of help.
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Give the commands' names."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        from importlib import import_module

        if cmd_name not in self.modules:
            return None
        module = import_module(f"{__name__}.{self.modules[cmd_name][0]}")
        return getattr(module, cmd_name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_module, line) in self.modules.items()])


@click.group(
    cls=Lazy,
    modules={
        "run": ("run", "Run a job, or all of them, and write a report."),
        "compare": ("run", "Time a job serially, with threads, with processes and on the cluster."),
        "scale": ("scale", "Run a job on more and more machines, and say what each brings."),
        "submit": ("submit", "Run a script of yours with Client() bound to the cluster."),
        "jobs": ("jobs", "See to the jobs that the cluster runs by itself (run, scale and submit --detach)."),
        "doctor": ("doctor", "Check a cluster, and say what to do about what is wrong."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Address of the scheduler, as in tls://desk:8786; Dask's scheduler-address if not given. "
    "Without either, a cluster of this machine's cores starts and ends with the command.",
)
@click.version_option(package_name="tritoncluster")
def command(scheduler: str | None) -> None:
    """One Dask cluster out of the machines you have.

    Exit status: 0 when all went well, 1 when a job failed or a check found something, 2 for input that can't be used.
    """
    if scheduler:
        import dask.config

        dask.config.set({"scheduler-address": scheduler})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; every error that a user can mend is one line on standard error.

    Parameters
    ----------
    arguments
        Words of the command line; those of this program, which is then watched, if not given.
    """
    if arguments is None and MARK in os.environ:
        from tritoncluster.cli.job_log import outlive_full_disk

        outlive_full_disk()
    if arguments is None and any(word in WATCHED for word in sys.argv):
        from tritoncluster.cli.watch import watched

        if (status := watched()) is not None:
            sys.exit(status)
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        with interruptible():
            status = command.main(args=words, prog_name="tritoncluster", standalone_mode=False, obj=words[:])
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = EXIT_BAD_INPUT
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tritoncluster"
        _complain(f"{error.format_message().rstrip('.')}; see '{where} --help'")
        status = EXIT_BAD_INPUT
    except (InputError, click.ClickException) as error:
        _complain(str(error) if isinstance(error, InputError) else error.format_message())
        later = isinstance(error, ClusterUnusableError) and MARK in os.environ
        status = EXIT_LATER if later else EXIT_BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        status = EXIT_INTERRUPTED
    sys.exit(status if isinstance(status, int) else 0)


def say(line: str) -> None:
    """Tell the user something beside what a command prints."""
    click.echo(f"tritoncluster: {line}", err=True)


def _complain(message: str) -> None:
    say(" ".join(message.split()))
