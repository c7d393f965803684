"""The service's settings, which are Dask's configuration below `tritoncluster.jobs`."""

from dataclasses import dataclass, fields
from typing import Any, Self

import dask.config
from dask.utils import parse_bytes, parse_timedelta

from tritoncluster.errors import InputError

SECTION = "tritoncluster.jobs"


@dataclass(frozen=True)
class Settings:
    """How much of what there is; sizes in bytes, times in seconds.

    Parameters
    ----------
    at_once
        Jobs that run at a time.
    memory
        That the processes of a job may take together.
    keep_time, keep_size
        How long jobs that have ended are kept, and how much disk all of these may take, the oldest going first.
    max_upload, max_log
        The most that is sent along with a job, and that its log may have.
    """

    at_once: int = 2
    memory: int = 896 * 2**20
    keep_time: float = 30 * 86400
    keep_size: int = 10 * 2**30
    max_upload: int = 256 * 2**20
    max_log: int = 64 * 2**20

    @classmethod
    def configured(cls) -> Self:
        """Read them.

        Raises
        ------
        InputError
            When one can't be used.
        """
        found = cls(**{item.name: _read(item.name, item.type) for item in fields(cls) if _given(item.name) is not None})
        for item in fields(cls):
            if not getattr(found, item.name) > 0:
                raise InputError(f"{SECTION}.{item.name} must be greater than 0, not {_given(item.name)}")
        return found


def _given(name: str) -> Any:
    return dask.config.get(f"{SECTION}.{name.replace('_', '-')}", None)


def _read(name: str, kind: Any) -> Any:
    given = _given(name)
    try:
        if name == "at_once":
            return int(given)
        # As Compose writes sizes, where m is 2^20; "30 days" as Dask does.
        return parse_timedelta(given) if kind is float else size(given)
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{SECTION}.{name} must be {_FORMS[name]}, not {given}") from None


_FORMS = {
    "at_once": "a number of jobs, as 2",
    "keep_time": "a time, as 30 days",
    **dict.fromkeys(("memory", "keep_size", "max_upload", "max_log"), "a size, as 1g"),
}


def size(text: Any) -> int:
    """Give the bytes of a size as Compose writes it.

    Raises
    ------
    ValueError
        When it is none.
    """
    number = str(text).strip().lower().removesuffix("b").removesuffix("i")
    return int(parse_bytes(f"{number}iB" if number[-1:].isalpha() else f"{number}B"))
