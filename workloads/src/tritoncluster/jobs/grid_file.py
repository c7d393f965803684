"""The grid of a search: the poster's, or a user's file."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from sklearn.svm import SVC

from tritoncluster.errors import InputError

#: 8 x 3 x 2 candidates.
POSTER_GRID: dict[str, list[Any]] = {
    "C": [0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0],
    "kernel": ["rbf", "poly", "sigmoid"],
    "shrinking": [True, False],
}

_SHAPE = "write one line a parameter, as in 'C: [0.1, 1, 10]'"


def read_grid(path: Path) -> dict[str, list[Any]]:
    """Read a grid from a YAML or JSON file and check it against SVC's own rules.

    Raises
    ------
    InputError
        Says in one line what the file must have instead.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise InputError(f"--grid: {path} can't be read: {reason}") from None
    try:
        # JSON is YAML, but JSON's own parser reads 1e-3 as the number it is.
        grid = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        raise InputError(f"--grid: {path} is neither YAML nor JSON ({where}); {_SHAPE}") from None
    if not isinstance(grid, dict) or not grid:
        raise InputError(f"--grid: {path} names no parameters; {_SHAPE}")
    return {str(name): _values(path, str(name), values) for name, values in grid.items()}


def _values(path: Path, name: str, values: Any) -> list[Any]:
    known = sorted(set(SVC().get_params()) - {"probability"})
    if name == "probability":
        raise InputError(f"--grid: {path}: leave out 'probability': it changes neither score nor prediction")
    if name not in known:
        raise InputError(f"--grid: {path}: SVC has no parameter '{name}'; it has {', '.join(known)}")
    if not isinstance(values, list) or not values:
        raise InputError(f"--grid: {path}: '{name}' needs a list of values, as in '{name}: [{values or 1}]'")
    return [_checked(path, name, _number(value)) for value in values]


def _number(value: Any) -> Any:
    # YAML 1.1 takes 1e-3 for a word; none of SVC's words is a number.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _checked(path: Path, name: str, value: Any) -> Any:
    try:
        SVC(**{name: value})._validate_params()  # noqa: SLF001 - what fit() calls first
    except ValueError as error:
        message = " ".join(chain.from_iterable(line.split() for line in str(error).splitlines()))
        raise InputError(f"--grid: {path}: {message}") from None
    return value
