"""`tritoncluster doctor`."""

import click
from rich.markup import escape

from tritoncluster.cli import EXIT_FAILED, terminal


@click.command()
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes of the embedded cluster.")
@click.option("--threads-per-worker", type=click.IntRange(min=1), help="Threads of each of them.")
def doctor(workers: int | None, threads_per_worker: int | None) -> int:
    """Check a cluster: every line says OK, or what to do.

    Exit status 1 when a check found something.
    """
    from tritoncluster.doctor import examine

    console = terminal.console()
    found = 0
    with terminal.connected(
        console, workers=workers, threads_per_worker=threads_per_worker, must_be_usable=False
    ) as client:
        for finding in examine(client):
            found += not finding.ok
            mark = "[green]OK [/]" if finding.ok else "[red]FIX[/]"
            where = f"{finding.where}: " if finding.where else ""
            console.print(f"{mark} {escape(finding.check)}: {escape(where + finding.detail)}")
            if not finding.ok:
                console.print(f"    → {escape(finding.remedy)}")
    console.print("All is well." if not found else f"{found} to fix.")
    return EXIT_FAILED if found else 0
