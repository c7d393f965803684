"""The jobs, one package each: parameters as a dataclass whose `run(client)` gives a result dataclass.

A job is a subclass of `Job`. Where it is defined, in a package here or elsewhere, is all that has to be written: the
command line finds it by its name, the report asks it for what to draw, the timeline for what its tasks are called.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from tritoncluster.record import Record
    from tritoncluster.report.content import Block, JobPage


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


class Job(ABC):
    """Parameters that can be run; a subclass is a frozen dataclass, and appears under its name in `JOBS`.

    Attributes
    ----------
    name
        On the command line, as in "grid-search".
    title
        For headings, as in "grid search"; its name's words if empty.
    about
        A sentence or two for the report.
    posters_size
        Parameters with which times can be held against the poster's.
    tasks
        Names of functions that run on workers -> what they do, for people.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    about: ClassVar[str] = ""
    posters_size: ClassVar[Mapping[str, Any]] = {}
    tasks: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take note of a job."""
        super().__init_subclass__(**kwargs)
        JOBS[cls.name] = cls

    @abstractmethod
    def check(self) -> None:
        """Raise InputError, in one line, when these parameters can't be run."""

    @abstractmethod
    def run(self, client: Any, progress: Progress = silent) -> Result:
        """Do the work on the client's cluster.

        Raises
        ------
        JobStoppedError
            When Ctrl-C or the loss of the scheduler ended it early; it carries what was finished.
        """

    @abstractmethod
    def run_with_joblib(self) -> object:
        """Do the same work with joblib's current backend, without a cluster."""

    def posters_ways(self, client: Any) -> list[tuple[str, float, Callable[[], object]]]:  # noqa: ARG002
        """Give the ways of the poster that differ from all others: name, share of the work that is done, the work."""
        return []

    @classmethod
    def page(cls, result: Any, record: "Record") -> "JobPage":  # noqa: ARG003
        """Give its part of the report on a run and its result, made of what is in `report.content`."""
        # Bokeh takes half a second to import: not before there is something to draw.
        from tritoncluster.report.content import JobPage, Paragraph

        return JobPage(blocks=[Paragraph(f"{result.headline}.")])

    @classmethod
    def compared(cls) -> "list[Block]":
        """Give its part of the report on a comparison: what the poster says of its ways."""
        return []

    @classmethod
    def posters_steps(cls) -> list[tuple[int, float]]:
        """Give cores and seconds of the poster's growing clusters, for this job at `posters_size`."""
        return []


def _packages() -> dict[str, type[Job] | str]:
    found = {
        module.name.replace("_", "-"): f"{__name__}.{module.name}"
        for module in pkgutil.iter_modules(__path__)
        if module.ispkg
    }
    # The poster's come first, the quickest of them first.
    posters = [name for name in ("forest", "grid-search", "asian-option") if name in found]
    return {name: found[name] for name in [*posters, *sorted(found.keys() - set(posters))]}


#: Name on the command line -> class, or, until it is used, the package that defines it: scikit-learn takes a second.
JOBS: dict[str, type[Job] | str] = _packages()


def load(name: str) -> type[Job]:
    """Give the dataclass of the job called `name`."""
    if isinstance(package := JOBS[name], str):
        import_module(package)
    found = JOBS[name]
    if isinstance(found, str):
        raise TypeError(f"{found} defines no job called {name}")
    return found


def task_names() -> dict[str, str]:
    """Give what the tasks of all jobs that are in use do, by the names of their functions."""
    return {task: words for job in JOBS.values() if not isinstance(job, str) for task, words in job.tasks.items()}
