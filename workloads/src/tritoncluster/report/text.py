"""Numbers and names as people read them."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tritoncluster.quantities import memory, seconds

__all__ = [
    "label",
    "labels",
    "listed",
    "many",
    "memory",
    "python_value",
    "seconds",
    "setting",
    "shorten",
    "value",
    "worker",
]

#: A zero-width space: invisible, and parts what would otherwise be read as markup.
_PARTING = "\u200b"
#: What makes the character after it the beginning of TeX; of three $ both pairs.
_OPENING = re.compile(r"\$(?=\$)|\\(?=[\[(])")


def many(number: int, thing: str) -> str:
    """Count things: "1 worker", "2,000 trees"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def energy(joules: float) -> str:
    """Spell an energy: "12 kJ", and from a tenth of a kilowatt-hour on "0.25 kWh"."""
    return f"{joules / 1000:.3g} kJ" if joules < 360_000 else f"{joules / 3.6e6:,.2f} kWh"


def listed(items: Sequence[str]) -> str:
    """Join as a sentence does: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def value(content: Any) -> str:
    """Spell a parameter's value, whatever its type."""
    if content is None:
        return "–"
    if hasattr(content, "item") and np.ndim(content) == 0:
        content = content.item()
    if isinstance(content, bool):
        return "yes" if content else "no"
    if isinstance(content, float):
        return f"{content:.4g}"
    if isinstance(content, int):
        return f"{content:,}"
    if isinstance(content, dict | list | tuple):
        return json.dumps(content, default=str, ensure_ascii=False)
    return str(content)


def setting(params: dict[str, Any]) -> str:
    """Spell the parameters of a candidate on one line, as in "C = 0.5, kernel = rbf"."""
    return ", ".join(f"{name} = {python_value(content)}" for name, content in params.items()) or "the defaults"


def python_value(content: Any) -> str:
    """Spell a value of an estimator's parameter, where True is not "yes"."""
    return str(content) if content is None or isinstance(content, bool | np.bool_) else value(content)


def worker(name: str) -> str:
    """Name a worker for people: Dask gives those of an embedded cluster bare numbers."""
    return f"worker {name}" if name.isdigit() else name


def shorten(text: str, limit: int = 18) -> str:
    """Leave out the middle of a long name: what tells machines apart is mostly at its ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def labels(names: Sequence[str], limit: int = 14) -> dict[str, str]:
    """Give workers names for a plot's axis: without as many words that all begin with as it takes to be short enough.

    One that is too long still loses its middle.
    """
    start = 0
    for mark in re.finditer(r"[-._/]+", names[0] if names else ""):
        if max(map(len, names)) - start <= limit or any(not name.startswith(names[0][: mark.end()]) for name in names):
            break
        start = mark.end()
    return {name: label(worker(name[start:] or name), limit) for name in names}


def label(text: str, limit: int = 18) -> str:
    """Prepare a name for a plot's axis.

    Bokeh takes text between $$ (or after a backslash and a bracket) for TeX, and what typesets that is not in a page.
    """
    return _OPENING.sub(lambda found: found[0] + _PARTING, shorten(text, limit))
