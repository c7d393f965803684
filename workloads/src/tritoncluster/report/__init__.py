"""Runs and comparisons as pages: one HTML file each, which needs no network and no other file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tritoncluster.report import pages
from tritoncluster.report.render import render

if TYPE_CHECKING:
    from tritoncluster.compare import Comparison
    from tritoncluster.record import Record
    from tritoncluster.scale import Scaling


def write(records: Sequence["Record"], path: Path) -> None:
    """Write the report of one run or more.

    Parameters
    ----------
    records
        Of jobs that ran one after the other on one cluster, at least one.
    path
        The file. It is complete as soon as it is there; one that was there before is replaced.
    """
    render(pages.of_records(records), path)


def write_comparison(comparison: "Comparison", path: Path) -> None:
    """Write the report of `tritoncluster compare`; `path` as for `write`."""
    render(pages.of_comparison(comparison), path)


def write_scaling(scaling: "Scaling", path: Path) -> None:
    """Write the report of `tritoncluster scale`; `path` as for `write`."""
    render(pages.of_scaling(scaling), path)
