"""A job that runs, as what started it knows it."""

import subprocess
import time
from dataclasses import dataclass, field

from tritoncluster.service.model import Job, State


@dataclass
class Run:
    """A job's processes, from their start until the last one is gone."""

    job: Job
    mark: str
    leader: subprocess.Popen[bytes]
    #: Seconds that it had run before, with earlier services and in earlier attempts.
    before: float
    begun: float = field(default_factory=time.monotonic)
    #: When it was last noted for how long it ran.
    noted: float = field(default_factory=time.monotonic)
    #: How the job ends whatever its program says; None when that decides.
    verdict: tuple[State, str] | None = None
    #: Why its program failed, as that said itself; it may be long until this can be noted.
    why: str = ""
    #: When it is killed.
    deadline: float | None = None
    #: Whether nothing was found of it after its end: a program that is just being started shows no mark for a moment.
    gone: bool = False

    @property
    def ran(self) -> float:
        """Seconds that it has run. The clock of the wall may be set meanwhile."""
        return self.before + time.monotonic() - self.begun
