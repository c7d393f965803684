"""Ansible filters: what a backup on the controller has."""

from __future__ import annotations

import tarfile
from typing import Any

#: What the first entry of each kind of backup is in.
KINDS = {"jobs.sqlite": "jobs", "notebooks": "notebooks"}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"backup_of": kind}


def kind(path: str) -> str:
    """Say whether a file is a backup of "jobs" or of "notebooks"; "" for any other, and where there is none."""
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
    except (tarfile.TarError, OSError):
        return ""
    return KINDS.get(first.name.partition("/")[0], "") if first else ""
