"""What results depend on beside what calls are sent: Python, the packages, the code and data that go with a script."""

import ast
import json
import platform
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from tritoncluster.errors import InputError
from tritoncluster.imports import find_units, on_path, read_unit
from tritoncluster.units import Unit

#: Our own code is known by its content where calls name it, as it is where a script's are.
OWN = "tritoncluster"


class UnknownCodeError(Exception):
    """Nobody can say whether a module will be the same next time; the message names it."""


class Surroundings:
    """Names and digests of what results depend on.

    Parameters
    ----------
    own_code
        Whether all calls may depend on tritoncluster's own code, and not only those that name a module of it.
    """

    def __init__(self, *, own_code: bool) -> None:
        self._parts = {"Python": f"{platform.python_implementation()} {platform.python_version()}", **packages()}
        if own_code:
            self._parts[OWN] = own_digest()
        self._modules: set[str] = set()
        self._digests: dict[frozenset[str], bytes] = {}
        self._note()

    def add(self, units: Iterable[Unit]) -> None:
        """Take in files that go along with a script, code or data."""
        for unit in units:
            self._parts[unit.name] = unit.digest
            self._modules.add(unit.module)
        self._note()

    @property
    def content(self) -> str:
        """Names and digests, as JSON."""
        return json.dumps(self._parts)

    def digest(self, modules: frozenset[str]) -> bytes:
        """Give the digest of all that calls depend on which name these modules (top-level ones).

        Raises
        ------
        UnknownCodeError
            When nobody can say what a module is.
        """
        if modules not in self._digests:
            found = [(name, code) for name in sorted(modules) if (code := self._code_of(name))]
            digest = blake2b(repr(found).encode(), digest_size=16, key=self.base).digest() if found else self.base
            self._digests[modules] = digest
        return self._digests[modules]

    def changed(self, earlier: Sequence[str]) -> list[str]:
        """Name what differs from the earlier surroundings that are most like these; nothing if some are the same."""
        differences = []
        for content in earlier:
            before: dict[str, str] = json.loads(content)
            differences.append(
                [name for name in {**before, **self._parts} if before.get(name) != self._parts.get(name)]
            )
        return min(differences, key=len, default=[])

    def _note(self) -> None:
        self.base = blake2b(self.content.encode(), digest_size=16).digest()
        self._digests = {}

    def _code_of(self, name: str) -> str:
        if name == "__main__" or name in self._modules or _comes_with_python(name) or name in self._parts:
            return ""
        return own_digest() if name == OWN else _code_elsewhere(name)


@cache
def own_digest() -> str:
    """Digest tritoncluster's own code."""
    return read_unit(Path(__file__).parents[1]).digest


@cache
def packages() -> dict[str, str]:
    """Give what is installed, by name and version -> a digest of its files as its record lists them.

    Of tritoncluster the version alone: what it computes with is known by its code.
    """
    found: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for info in [*folder.glob("*.dist-info"), *folder.glob("*.egg-info")]:
            name = info.name.rpartition(".")[0]
            record = info / "RECORD"
            known = not name.startswith(f"{OWN}-") and record.is_file()
            found.setdefault(name, blake2b(record.read_bytes(), digest_size=8).hexdigest() if known else "")
    return dict(sorted(found.items()))


@lru_cache(maxsize=1000)
def _comes_with_python(name: str) -> bool:
    """Tell whether a module is Python's own, or of a package that is installed."""
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return True
    module = sys.modules.get(name)
    return module is not None and any(path.is_relative_to(folder) for path in _files(module) for folder in _installed())


@cache
def _installed() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return frozenset(
        Path(folder).resolve() for folder in (*folders, *site.getsitepackages(), site.getusersitepackages())
    )


def _files(module: ModuleType) -> list[Path]:
    file = getattr(module, "__file__", None)
    return [Path(each).resolve() for each in ([file] if file else list(getattr(module, "__path__", [])))]


@cache
def _code_elsewhere(name: str) -> str:
    """Digest a module that is in no package that is installed, and what it imports from elsewhere itself."""
    files = _files(sys.modules[name]) if name in sys.modules else []
    try:
        units = find_units(ast.parse(f"import {name}"), on_path())
    except (InputError, OSError, SyntaxError):
        units = {}
    own = [unit for unit in units.values() if unit.module == name]
    if not own or not files or not any(file.is_relative_to(Path(unit.origin)) for file in files for unit in own):
        raise UnknownCodeError(name)
    return repr(sorted((unit.name, unit.digest) for unit in units.values()))
