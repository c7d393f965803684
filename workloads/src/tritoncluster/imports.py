"""What a script imports from its own folders, found by reading the code: also what it imports later, in a function."""

import ast
import os
import site
import sys
import sysconfig
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from tritoncluster.errors import InputError
from tritoncluster.units import SUFFIXES, Unit

#: Folders that hold no code of the user's, wherever they are.
NOT_CODE = ("__pycache__", "node_modules")


@dataclass(frozen=True)
class Folder:
    """Where modules of the user's are looked for.

    Parameters
    ----------
    path
        The folder.
    own
        Whether it is the script's own; from others, as those in PYTHONPATH, a module that the cluster has is not sent.
    """

    path: Path
    own: bool = True


def on_path() -> list[Folder]:
    """Give the folders that Python looks into, as PYTHONPATH names them, without those of Python and of packages."""
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    installed |= {Path(path).resolve() for path in [*site.getsitepackages(), site.getusersitepackages()]}
    folders = [Path(path or ".").resolve() for path in sys.path]
    return [
        Folder(folder, own=False)
        for folder in folders
        if folder.is_dir() and not any(folder.is_relative_to(other) for other in installed)
    ]


def find_units(code: ast.AST, folders: Sequence[Folder], *, known: Container[str] = ()) -> dict[str, Unit]:
    """Find what goes along with a program: the modules and packages that it imports, and that those import.

    Parameters
    ----------
    code
        The program.
    folders
        Where to look, in the order in which Python does.
    known
        Names of modules that are loaded already, and no part of it.

    Returns
    -------
    dict
        Name of the file or folder -> the unit. A package goes as a whole, but with its code alone.

    Raises
    ------
    InputError
        When a module has the name of one of Python's own, or of one in `known`.
    """
    units: dict[str, Unit] = {}
    seen: set[str] = set()
    waiting = imported(code)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        unit = find_unit(name, folders)
        if unit and name in known:
            if unit.yields or name == "tritoncluster":
                continue
            raise InputError(f"{unit.origin} has the name of a module that the cluster's programs need; rename it")
        if unit:
            units[unit.name] = unit
            for path, content in unit.files.items():
                if path.endswith(".py"):
                    waiting |= _imported_by(content)
    return units


def find_unit(name: str, folders: Sequence[Folder]) -> Unit | None:
    """Find the module or package of that name, as Python would.

    Raises
    ------
    InputError
        When it has the name of one of Python's own.
    """
    for folder in folders:
        package = folder.path / name
        files = [folder.path / f"{name}{suffix}" for suffix in SUFFIXES]
        if (package / "__init__.py").is_file():
            path = package
        elif found := [file for file in files if file.is_file()]:
            path = found[0]
        else:
            continue
        if name in sys.stdlib_module_names:
            if not folder.own:
                return None
            raise InputError(f"{path} has the name of a module of Python's own; rename it")
        return read_unit(path, yields=not folder.own)
    # A folder without __init__.py is a package only where there is no other module of that name.
    spec = None if name in sys.builtin_module_names else PathFinder.find_spec(name)
    if name in sys.stdlib_module_names or (spec and spec.origin):
        return None
    for folder in folders:
        if folder.own and (folder.path / name).is_dir():
            unit = read_unit(folder.path / name)
            return unit if unit.module else None
    return None


def read_unit(path: Path, *, everything: bool = False, yields: bool = False) -> Unit:
    """Read a file, or the code in a folder and below it.

    Parameters
    ----------
    path
        The file or folder.
    everything
        Take data in the folder too.
    yields
        See `Unit`.

    Raises
    ------
    OSError
        When something can't be read.
    """
    path = path.resolve()
    found = [path] if path.is_file() else _below(path)
    files = {
        file.relative_to(path.parent).as_posix(): file.read_bytes()
        for file in found
        if everything or file == path or file.name.endswith(SUFFIXES)
    }
    return Unit(path.name, files, str(path), yields)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        # A folder with pyvenv.cfg is a Python environment.
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and name not in NOT_CODE and not Path(parent, name, "pyvenv.cfg").exists()
        ]
        for name in sorted(files):
            path = Path(parent, name)
            if path.is_file() and not name.startswith("."):
                yield path


def _imported_by(source: bytes) -> set[str]:
    try:
        return imported(ast.parse(source))
    except (SyntaxError, ValueError):  # whoever imports it is told
        return set()


def imported(code: ast.AST) -> set[str]:
    """List the names that come first in what is imported anywhere in the code."""
    names: set[str] = set()
    for node in ast.walk(code):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(level=0, module=str(module)):
                names.add(module)
            # What Python's functions for it are given, where that is written out.
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                names.add(module)
    return {first for name in names if (first := name.partition(".")[0])}
