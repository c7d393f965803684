"""Exits 0 when the scheduler that runs can work with what this image is: they talk, and functions pass between them."""

import sys

import distributed

from tritoncluster.cluster import connect
from tritoncluster.errors import ClusterUnusableError
from tritoncluster.versions import minor


def versions() -> tuple[str, str]:
    """Give those that have to be the same on both sides."""
    return minor(sys.version.split()[0]), distributed.__version__


try:
    with connect(timeout="20 s", must_be_usable=False) as client:
        packages = client.sync(client.scheduler.versions)["packages"]
except ClusterUnusableError as error:
    sys.exit(str(error))
theirs = minor(packages["python"]), packages["distributed"]
if theirs != versions():
    sys.exit(f"Python and Dask there are {' and '.join(theirs)}, here {' and '.join(versions())}")
