"""Refuses a second clone of the project whose cluster has the name of the first's: it would be the same cluster."""

import re
from pathlib import Path

#: What is mounted of the clone, and where its path is kept.
MOUNTED, KEPT = "/clone/docker", Path("/secrets/authority/clone")


def refuse(mounts: str, kept: Path = KEPT) -> list[str]:
    """Give the line that says so if another clone's path is kept; keep this one's if none is.

    Parameters
    ----------
    mounts
        `/proc/self/mountinfo`, which has the path of what is mounted.
    kept
        File with the path of the clone whose cluster it is.
    """
    found = re.search(rf"^\S+ \S+ \S+ (\S+) {MOUNTED} ", mounts, re.MULTILINE)
    here = found[1].encode().decode("unicode_escape").rpartition("/")[0] if found else ""
    there = kept.read_text() if kept.exists() else ""
    if here and there and here != there:
        line = (
            f"a cluster of this name belongs to the clone in {there}: write another COMPOSE_PROJECT_NAME into .env, "
            "with another SCHEDULER_PORT and DASHBOARD_PORT; if this clone is that one, moved: docker compose run --rm "
            "setup adopt"
        )
        return [line]
    if here and not there:
        kept.write_text(here)
    return []
