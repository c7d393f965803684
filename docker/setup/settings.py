"""Refuses settings before anything starts with them. What Compose itself reads, as sizes and ports, it has checked."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

#: A worker that has imported scikit-learn takes 200 MB, its scratch folder up to 64; one of so little has no nanny.
LEAST_WORKER_MEMORY = 512 * 2**20
#: The jobs service itself, with what it sends and takes.
SERVICE_MEMORY = 256 * 2**20
#: A job's program that has imported scikit-learn takes 200 MB.
LEAST_JOB_MEMORY = 256 * 2**20
#: A notebook's server, and a kernel that has imported scikit-learn.
LEAST_NOTEBOOK_MEMORY = 512 * 2**20
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
    memory = size(environment["WORKER_MEMORY"])
    if memory is None or memory < LEAST_WORKER_MEMORY:
        yield f"WORKER_MEMORY={environment['WORKER_MEMORY']} in .env: write 512m or more"
    for name, none in {"WORKER_MAX_SPILL": "for no spilling", "WORKER_MAX_DISK": "for no limit"}.items():
        if size(environment[name]) is None:
            yield f"{name}={environment[name]} in .env: write a size, as 2g, or 0 {none}"
    yield from _wrong_jobs(environment)
    yield from _wrong_notebook(environment)
    if environment["PLACEMENT"] not in ("true", "false"):
        yield f"PLACEMENT={environment['PLACEMENT']} in .env: write true or false"
    days = environment["CERTIFICATE_DAYS"]
    if not days.isdecimal() or not LEAST_DAYS <= int(days) <= MOST_DAYS:
        yield f"CERTIFICATE_DAYS={days} in .env: write a number from {LEAST_DAYS} to {MOST_DAYS}"
    names = environment["DASHBOARD_NAMES"]
    if not re.fullmatch(r"([A-Za-z0-9.:-]+(,[A-Za-z0-9.:-]+)*)?", names):
        yield f"DASHBOARD_NAMES={names} in .env: write host names and addresses with commas between"


def _wrong_notebook(environment: Mapping[str, str]) -> Iterator[str]:
    memory, minutes = environment["NOTEBOOK_MEMORY"], environment["NOTEBOOK_IDLE_MINUTES"]
    if (size(memory) or 0) < LEAST_NOTEBOOK_MEMORY:
        yield f"NOTEBOOK_MEMORY={memory} in .env: write 512m or more"
    if not re.fullmatch(r"[1-9][0-9]{0,4}", minutes):
        yield f"NOTEBOOK_IDLE_MINUTES={minutes} in .env: write a number of minutes, as 60"


def _wrong_jobs(environment: Mapping[str, str]) -> Iterator[str]:
    at_once = environment["JOBS_AT_ONCE"]
    if not re.fullmatch(r"[1-9][0-9]{0,2}", at_once):
        yield f"JOBS_AT_ONCE={at_once} in .env: write a number of jobs, as 2"
        return
    for name in ("JOBS_KEEP_SIZE", "JOBS_MAX_UPLOAD"):
        if not size(environment[name]):
            yield f"{name}={environment[name]} in .env: write a size, as 1g"
    if not re.fullmatch(r"[1-9][0-9]{0,4}", environment["JOBS_KEEP_DAYS"]):
        yield f"JOBS_KEEP_DAYS={environment['JOBS_KEEP_DAYS']} in .env: write a number of days, as 30"
    each, total = size(environment["JOB_MEMORY"]), size(environment["JOBS_MEMORY"])
    if each is None or each < LEAST_JOB_MEMORY:
        yield f"JOB_MEMORY={environment['JOB_MEMORY']} in .env: write 256m or more"
    elif total is None or total < (needed := int(at_once) * each + SERVICE_MEMORY):
        yield (
            f"JOBS_MEMORY={environment['JOBS_MEMORY']} in .env: {at_once} jobs of {environment['JOB_MEMORY']} and the "
            f"service want {needed // 2**20}m; write that, or less for JOBS_AT_ONCE or JOB_MEMORY"
        )


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
