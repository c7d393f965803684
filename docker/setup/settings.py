"""Refuses settings before anything starts with them. What Compose itself reads, as sizes and ports, it has checked."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

#: A worker that has imported scikit-learn takes 200 MB, its nanny 75, its scratch folder up to 64.
LEAST_WORKER_MEMORY = 512 * 2**20
#: Older ones are refused by some systems; a renewal takes place when a third of the time is left.
MOST_DAYS, LEAST_DAYS = 825, 3
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def check(environment: Mapping[str, str], results: Path = Path("/work/results")) -> list[str]:
    """Give a line for each setting that can't be used, with what to write instead."""
    wrong = list(_wrong(environment))
    if not wrong:
        wrong += _not_writable(environment["UID"], environment["GID"], results)
    return wrong


def size(text: str) -> int | None:
    """Give the bytes that a size as Compose writes it stands for, None when it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)i?b?", text.strip().lower())
    return int(float(found[1]) * UNITS[found[2]]) if found else None


def _wrong(environment: Mapping[str, str]) -> Iterator[str]:
    for name in ("UID", "GID"):
        if not re.fullmatch(r"[0-9]{1,9}", environment[name]):
            yield f"{name}={environment[name]} in .env: write the number that `id` prints"
    memory, spill = size(environment["WORKER_MEMORY"]), size(environment["WORKER_MAX_SPILL"])
    if memory is None or memory < LEAST_WORKER_MEMORY:
        yield f"WORKER_MEMORY={environment['WORKER_MEMORY']} in .env: write 512m or more"
    if spill is None:
        yield f"WORKER_MAX_SPILL={environment['WORKER_MAX_SPILL']} in .env: write a size, as 2g, or 0 for no spilling"
    days = environment["CERTIFICATE_DAYS"]
    if not days.isdecimal() or not LEAST_DAYS <= int(days) <= MOST_DAYS:
        yield f"CERTIFICATE_DAYS={days} in .env: write a number from {LEAST_DAYS} to {MOST_DAYS}"
    names = environment["DASHBOARD_NAMES"]
    if not re.fullmatch(r"([A-Za-z0-9.:-]+(,[A-Za-z0-9.:-]+)*)?", names):
        yield f"DASHBOARD_NAMES={names} in .env: write host names and addresses with commas between"


def _not_writable(user: str, group: str, results: Path) -> Iterator[str]:
    tried = subprocess.run(
        ["/usr/bin/test", "-w", results, "-a", "-x", results],
        user=int(user), group=int(group), extra_groups=[], check=False,
    )  # fmt: skip
    if tried.returncode:
        owner = results.stat()
        yield (
            f"the results folder can't be written by UID={user} GID={group}: set them in .env to its owner's, "
            f"UID={owner.st_uid} GID={owner.st_gid}, or run: sudo chown {user}:{group} results"
        )
