"""A user's script before it runs: its code, and what goes along."""

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

from tritoncluster import notebooks
from tritoncluster.errors import InputError
from tritoncluster.imports import Folder, find_units, imported, on_path, read_unit
from tritoncluster.units import Unit


@dataclass(frozen=True)
class Program:
    """A script that can be run, and what goes with it.

    Parameters
    ----------
    name
        As it was given: the script's argument 0.
    file
        Where it is, or "<stdin>".
    code
        It; nothing of a notebook, which a kernel runs cell by cell.
    folders
        Where its modules are looked for; the first one is its own.
    units
        Name -> what goes along to the workers.
    imports
        Names of the modules that it imports itself.
    """

    name: str
    file: str
    code: CodeType = field(repr=False)
    folders: tuple[Folder, ...]
    units: dict[str, Unit]
    imports: frozenset[str]

    @property
    def own_folders(self) -> list[str]:
        """The paths of those folders that are the script's, or that it was given."""
        return [str(folder.path) for folder in self.folders if folder.own]


def prepare(script: str, with_paths: Sequence[Path] = ()) -> Program:
    """Read a script, and find what goes along: what it imports from its own folder, and what is named.

    Parameters
    ----------
    script
        Path of a script or a notebook, or "-" for a script that comes on standard input.
    with_paths
        Files and folders that go along besides.

    Raises
    ------
    InputError
        When something can't be read or sent.
    SyntaxError, ValueError
        Of the script's code.
    """
    file, source = _read(script)
    own = Path(file).parent if file != "<stdin>" else Path.cwd()
    tree = notebooks.imports(source, script) if notebooks.is_one(script) else ast.parse(source, file)
    named = _named(with_paths)
    beside = {Path(unit.origin).parent for unit in named.values()} - {own}
    folders = (Folder(own), *(Folder(folder) for folder in sorted(beside)), *on_path())
    # What this process has imported so far is no part of the script.
    known = {name for name in sys.modules if "." not in name and not is_in(sys.modules[name], folders)}
    units = find_units(tree, folders, known=known)
    for unit in named.values():
        # Also what only those that are named import.
        for content in (content for path, content in unit.files.items() if path.endswith(".py")):
            units |= find_units(_parsed(content), folders, known=known | {unit.module for unit in units.values()})
    code = compile("" if notebooks.is_one(script) else tree, file, "exec")
    return Program(script, file, code, folders, units | named, frozenset(imported(tree)))


def _read(script: str) -> tuple[str, bytes]:
    if script == "-":
        return "<stdin>", sys.stdin.buffer.read()
    path = Path(script)
    try:
        return str(path.absolute()), path.read_bytes()
    except OSError:
        raise InputError(f"there is no script {script} that can be read; give the path of a Python file") from None


def _named(paths: Sequence[Path]) -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for path in paths:
        try:
            path.stat()
            unit = read_unit(path, everything=True)
        except OSError as error:
            raise InputError(f"--with {path} can't be read: {error.strerror}") from None
        if not unit.files:
            raise InputError(f"--with {path}: there is no file in it")
        if unit.name in units and units[unit.name].origin != unit.origin:
            raise InputError(f"--with {path}: there is another file called {unit.name}; rename one of them")
        if unit.module in sys.stdlib_module_names:
            raise InputError(f"--with {path} has the name of a module of Python's own; rename it")
        units[unit.name] = unit
    return units


def _parsed(source: bytes) -> ast.AST:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def is_in(module: ModuleType, folders: Sequence[Folder]) -> bool:
    """Say whether a module is in one of the script's own folders, or below."""
    file = getattr(module, "__file__", None) or ""
    return bool(file) and any(folder.own and Path(file).parent.is_relative_to(folder.path) for folder in folders)
