"""What a check found."""

from dataclasses import dataclass

from tritoncluster.nodes import reason


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Parameters
    ----------
    check
        Name of the check.
    ok
        False where something has to be done.
    where
        A worker's name, a host's, "scheduler", "client", or "" for the whole cluster.
    detail
        What was seen, one line.
    remedy
        What to do about it, one line; empty when ok.
    looked
        False where nothing at all could be looked at.
    """

    check: str
    ok: bool
    where: str
    detail: str
    remedy: str = ""
    looked: bool = True


def fine(check: str, detail: str) -> Finding:
    """Give the finding of a check that passed everywhere."""
    return Finding(check, ok=True, where="", detail=detail)


def wrong(check: str, where: str, detail: str, remedy: str) -> Finding:
    """Give the finding of something that has to be done."""
    return Finding(check, ok=False, where=where, detail=detail, remedy=remedy)


def unchecked(check: str, where: str, error: BaseException) -> Finding:
    """Give the finding of a check that failed itself."""
    remedy = f"look into the log of {where or 'the scheduler'}, restart it if need be, and run the doctor again"
    return wrong(check, where, f"could not be checked: {reason(error)}", remedy)


def count(number: int, thing: str) -> str:
    """Say "1 thread", "2 threads"."""
    return f"{number} {thing}{'s' * (number != 1)}"
