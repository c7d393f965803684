"""Versions that have to agree: those of the packages that work passes through, on client, scheduler and workers."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from platform import python_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

#: What carries tasks and data, and what computes with them. Distributions, as pip names them.
PACKAGES = (
    "tritoncluster",
    "dask",
    "distributed",
    "cloudpickle",
    "msgpack",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "joblib",
)
MISSING = "not installed"
#: So many nodes are named in a message.
NAMED = 3


@dataclass(frozen=True)
class Difference:
    """A package whose version is not everywhere the same.

    Parameters
    ----------
    package
        Its name, or "python".
    here, there
        The client's version, and the one of `nodes`; "not installed" where there is none.
    nodes
        "scheduler" and names of workers.
    """

    package: str
    here: str
    there: str
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a few words, both sides."""
        return f"{self.package} is {self.here} here, {self.there} on {name_some(self.nodes)}"


def installed() -> dict[str, str]:
    """Give the version of Python and of each of `PACKAGES` that is installed, by name."""
    versions = {"python": python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def unmet() -> list[str]:
    """List what this package needs and does not find here, in the version that it needs.

    pip sees to it when it installs the package, but not when it installs another one later.
    """
    from packaging.requirements import Requirement

    found = []
    for line in requires("tritoncluster") or []:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate():
            continue
        try:
            here = version(needed.name)
        except PackageNotFoundError:
            found.append(f"{needed.name} is not installed; write pip install '{needed}'")
            continue
        if not needed.specifier.contains(here, prereleases=True):
            found.append(f"{needed.name} is {here}, not {needed.specifier}; write pip install '{needed}'")
    return found


def differences(client: "Client", *, seconds: float = 5.0) -> list[Difference]:
    """Compare this process with the scheduler and every worker.

    A node that does not answer within `seconds` is left out: what is wrong with it is not its versions.
    """
    return compare(installed(), on_nodes(client, seconds=seconds))


def on_nodes(client: "Client", *, seconds: float = 5.0) -> dict[str, dict[str, str]]:
    """Ask for the versions on the scheduler and the workers that answer; node's name -> what `installed` gives."""
    # A function of Dask's, which pickles as its name: nothing of ours has to be installed there, and a node with
    # another version of Python, for which the byte-code of a function of ours is poison, answers too.
    from distributed.versions import get_versions

    from tritoncluster.nodes import ask_scheduler, ask_workers, workers

    names = {worker.address: worker.name for worker in workers(client, seconds)}
    answers = {"scheduler": ask_scheduler(client, get_versions, PACKAGES, seconds=seconds)}
    for address, answer in ask_workers(client, names, get_versions, PACKAGES, seconds=seconds).items():
        answers[names[address]] = answer
    return {node: _plain(answer["packages"]) for node, answer in answers.items() if isinstance(answer, dict)}


def compare(here: Mapping[str, str], there: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """List what differs from `here`: packages by their whole version, Python by its minor version.

    Functions travel as byte-code, which a minor version of Python understands in all its releases.
    """
    found: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for node, versions in there.items():
        for package in ("python", *PACKAGES):
            mine, theirs = here.get(package, MISSING), versions.get(package, MISSING)
            same = minor(mine) == minor(theirs) if package == "python" else mine == theirs
            if not same:
                found[package, mine, theirs].append(node)
    return [Difference(*versions, tuple(nodes)) for versions, nodes in found.items()]


def minor(python: str) -> str:
    """Shorten "3.11.7" to "3.11"."""
    return ".".join(python.split(".")[:2])


def name_some(nodes: tuple[str, ...]) -> str:
    """Name the nodes, or the first of them and how many more there are."""
    more = len(nodes) - NAMED
    return ", ".join(nodes[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _plain(packages: Mapping[str, str | None]) -> dict[str, str]:
    versions = {package: packages.get(package) for package in PACKAGES}
    # Dask gives Python's as "3.11.7.final.0".
    versions["python"] = ".".join((packages["python"] or "").split(".")[:3])
    return {package: version for package, version in versions.items() if version}
