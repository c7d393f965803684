"""`tritoncluster doctor`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from tritoncluster.cli import EXIT_BAD_INPUT, EXIT_FAILED, terminal
from tritoncluster.errors import ClusterUnusableError

if TYPE_CHECKING:
    from tritoncluster.doctor import Finding


@click.command()
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes of the embedded cluster.")
@click.option("--threads-per-worker", type=click.IntRange(min=1), help="Threads of each of them.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else, on standard output."
)
def doctor(workers: int | None, threads_per_worker: int | None, *, as_json: bool) -> int:
    """Check a cluster: every line says OK, or what to do.

    Exit status: 0 when all is well, 1 when a check found something, 2 when no scheduler answers.
    """
    console = terminal.console(as_json=as_json)
    try:
        with terminal.connected(
            console, workers=workers, threads_per_worker=threads_per_worker, must_be_usable=False
        ) as client:
            from tritoncluster.doctor import examine

            findings = list(_shown(examine(client), console))
    except ClusterUnusableError as error:
        if as_json:
            _print_json([], str(error))
        raise
    found = sum(not finding.ok for finding in findings)
    console.print("All is well." if not found else f"{found} to fix.")
    looked = all(finding.looked for finding in findings)
    if as_json:
        _print_json(findings, None if looked else findings[-1].detail)
    return (EXIT_FAILED if found else 0) if looked else EXIT_BAD_INPUT


def _shown(findings: Iterator["Finding"], console: Console) -> Iterator["Finding"]:
    for finding in findings:
        mark = "[green]OK [/]" if finding.ok else "[red]FIX[/]"
        where = f"{finding.where}: " if finding.where else ""
        console.print(f"{mark} {escape(finding.check)}: {escape(where + finding.detail)}")
        if not finding.ok:
            console.print(f"    → {escape(finding.remedy)}")
        yield finding


def _print_json(findings: list["Finding"], error: str | None) -> None:
    """Print what was found; `error` says why nothing could be looked at."""
    shown = [asdict(finding) for finding in findings]
    for finding in shown:
        del finding["looked"]
    well = error is None and all(finding["ok"] for finding in shown)
    click.echo(json.dumps({"ok": well, "error": error, "findings": shown}, indent=2, ensure_ascii=False))
