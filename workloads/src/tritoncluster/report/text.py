"""Numbers and names as people read them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

#: A zero-width space: invisible, and parts what would otherwise be read as markup.
_PARTING = "\u200b"


def seconds(value: float) -> str:
    """Spell a duration: "0.47 s", "43.6 s", "2 min 49 s", "1 h 05 min"."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def memory(size: int) -> str:
    """Spell a number of bytes; 0 is Dask's way to say that there is no limit."""
    if not size:
        return "no limit"
    gib = size / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{size / 2**20:.0f} MiB"


def many(number: int, thing: str) -> str:
    """Count things: "1 worker", "2,000 trees"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


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


def label(text: str, limit: int = 18) -> str:
    """Prepare a name for a plot's axis.

    Bokeh takes text between $$ (or after a backslash and a bracket) for TeX, and what typesets that is not in a page.
    """
    short = shorten(text, limit)
    for opening in ("$$", "\\[", "\\("):
        short = short.replace(opening, opening[0] + _PARTING + opening[1])
    return short
