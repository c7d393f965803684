"""The jobs, one module each: parameters as a dataclass whose `run(client)` gives a result dataclass."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, Protocol, runtime_checkable

#: Name on the command line -> module and class. Imported when used: scikit-learn takes a second.
JOBS = {
    "forest": ("forest", "Forest"),
    "grid-search": ("grid_search", "GridSearch"),
    "asian-option": ("asian_option", "AsianOption"),
}


class Progress(Protocol):
    """Told by a job how far it is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that `done` of `total` are finished; `stage` names them, as in "trees"."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


class Result(Protocol):
    """What a job found: the figures, and what a report needs to draw them."""

    @property
    def headline(self) -> str:
        """The most important of it in one sentence, without a full stop."""

    def to_json(self) -> dict[str, Any]:
        """Give the job's fields of `result.json`."""


@runtime_checkable
class Job(Protocol):
    """Parameters that can be run."""

    name: ClassVar[str]

    def check(self) -> None:
        """Raise InputError, in one line, when these parameters can't be run."""

    def run(self, client: Any, progress: Progress = silent) -> Result:
        """Do the work on the client's cluster.

        Raises
        ------
        JobStoppedError
            When Ctrl-C or the loss of the scheduler ended it early; it carries what was finished.
        """

    def run_with_joblib(self) -> object:
        """Do the same work with joblib's current backend, without a cluster."""

    def posters_ways(self, client: Any) -> list[tuple[str, float, Callable[[], object]]]:
        """Give the ways of the poster that differ from all others: name, share of the work that is done, the work."""


def load(name: str) -> type[Any]:
    """Give the dataclass of the job called `name`."""
    module, cls = JOBS[name]
    return getattr(import_module(f"{__name__}.{module}"), cls)
