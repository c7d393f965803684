"""What can go wrong in a way that the user can mend; each message is one line that says how."""


class InputError(ValueError):
    """A parameter, file or address that can't be used. Nothing has been started or changed."""


class ClusterUnusableError(InputError):
    """The cluster that was asked for does not answer, has no workers, or differs from this program."""


class ClusterLostError(RuntimeError):
    """The scheduler went away while a job ran."""

    def __init__(self) -> None:
        super().__init__("the scheduler went away while the job ran; run it again when the cluster is back")


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
