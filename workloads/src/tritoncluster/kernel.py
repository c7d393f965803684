"""What a notebook's kernel loads, so that code in it runs on the cluster as a script's does.

An extension of IPython, by a kernel's settings or with `%load_ext tritoncluster.kernel`.
"""

import atexit
import os
import pickle
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import parallel

from tritoncluster.units import Unit

#: In the environment of the kernel of a notebook that was submitted: a folder that has `Submitted` as a file.
FOLDER = "TRITONCLUSTER_KERNEL"
SUBMITTED = "submitted.pickle"


@dataclass(frozen=True)
class Submitted:
    """What the kernel of a notebook that was submitted has to know.

    Parameters
    ----------
    journal
        Where finished pieces are kept; None for nowhere.
    limit
        Bytes that it may have.
    about
        What the user should know of it.
    units
        What goes along to the workers.
    """

    journal: Path | None
    limit: int
    about: str
    units: Sequence[Unit]

    def leave(self, folder: Path) -> None:
        """Put it where the kernel finds it."""
        (folder / SUBMITTED).write_bytes(pickle.dumps(self))


def load_ipython_extension(_shell: Any) -> None:
    """Let the backend `balanced` be named without an import, and scikit-learn send nothing that workers can't read."""
    # Imported when somebody asks for it: a kernel starts at once.
    parallel.EXTERNAL_BACKENDS["balanced"] = _register
    # scikit-learn sends along how warnings are treated, also IPython's own, which workers do not have.
    kept = [each for each in warnings.filters if not each[2].__module__.startswith("IPython.")]
    warnings.filters[:] = kept  # type: ignore[index]
    # What the notebook starts has no part in it.
    if folder := os.environ.pop(FOLDER, ""):
        _begin(Path(folder))


def _register() -> None:
    from tritoncluster.balance.joblib import register

    register()


def _begin(folder: Path) -> None:
    """Keep what the notebook finishes, and let it use the cluster that is there, until the kernel ends."""
    from tritoncluster.journal import Journal, in_use
    from tritoncluster.notebooks import TOLD
    from tritoncluster.script_client import bound

    submitted: Submitted = pickle.loads((folder / SUBMITTED).read_bytes())  # noqa: S301 - of who started this

    def tell(line: str) -> None:
        with (folder / TOLD).open("a", encoding="utf-8") as lines:
            lines.write(line.replace("\n", " ") + "\n")

    entered = ExitStack()
    entered.enter_context(bound(tell))
    if submitted.journal:
        journal = Journal(submitted.journal, limit=submitted.limit, tell=tell, about=submitted.about)
        journal.add_files(submitted.units)
        entered.callback(journal.close, complete=False)
        entered.enter_context(in_use(journal))
    atexit.register(entered.close)
