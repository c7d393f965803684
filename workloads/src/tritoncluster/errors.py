"""What can go wrong in a way that the user can mend; each message is one line that says how."""

import errno

from tritoncluster.quantities import seconds as duration

#: What a disk says that has no room.
FULL = (errno.ENOSPC, errno.EDQUOT)


class InputError(ValueError):
    """A parameter, file or address that can't be used. Nothing has been started or changed."""


class ClusterUnusableError(InputError):
    """The cluster that was asked for does not answer, has no workers, or differs from this program."""


class ClusterLostError(RuntimeError):
    """The scheduler went away while a job ran, or let go of the job's tasks.

    Parameters
    ----------
    how
        "lost"; "restarted", as by `client.restart()`; "cancelled", as by `client.cancel()`; or "futures", which were
        lost with the scheduler, and only their program can make them again.
    waited
        Seconds for which it was waited for.
    refusal
        Why the next one does not let this program in.
    """

    def __init__(self, how: str = "lost", waited: float = 0.0, refusal: str = "") -> None:
        super().__init__(
            {
                "lost": f"the scheduler went away while the job ran{_since(waited, refusal)}; run it again when the "
                "cluster is back",
                "restarted": "the cluster was restarted while the job ran; run it again",
                "cancelled": "the job's tasks were cancelled while it ran; run it again",
                "futures": "the scheduler went away, and with it the script's futures, which Dask keeps nowhere else; "
                "run it again when the cluster is back. What goes through the backend 'balanced' or balanced_map "
                "waits for the scheduler and goes on",
            }[how]
        )


def _since(waited: float, refusal: str) -> str:
    if refusal:
        return f", and the next one refuses this program: {refusal}"
    return f", and was not back in {duration(waited)}" if waited else ""


class JobStoppedError(Exception):
    """A job ended before its time; `__cause__` says why.

    Parameters
    ----------
    result
        The job's result for the part that was finished, or None where nothing was.
    """

    def __init__(self, result: object | None) -> None:
        super().__init__("stopped before the end")
        self.result = result


class WorkersLostError(RuntimeError):
    """Workers died one after the other while they computed the same thing.

    Parameters
    ----------
    name
        What it is, as in the names of tasks.
    workers
        How many died.
    """

    def __init__(self, name: str, workers: int) -> None:
        super().__init__(
            f"Attempted to run task {name} on {workers} workers, and each died while it ran; their logs say why, most "
            "often for want of memory"
        )


class NoWorkersError(TimeoutError):
    """No worker was there, or none answered, for as long as the work waits for one."""
