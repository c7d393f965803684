"""The weight of a run: its share of workers that others use, too, relative to theirs."""

from contextlib import suppress
from typing import Any

from tritoncluster.errors import InputError

#: Dask's configuration key for it.
WEIGHT = "tritoncluster.weight"
#: With others, somebody would have to wait for minutes.
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 10.0


def weight_of(given: float | None = None) -> float:
    """Give a run's weight: what is given, or configured, or 1.

    Raises
    ------
    InputError
        When it is no number, or too small or too large.
    """
    # Who only shows a command's options need not wait for Dask.
    import dask.config

    weight: Any = dask.config.get(WEIGHT, 1.0) if given is None else given
    with suppress(TypeError, ValueError):
        if LEAST_WEIGHT <= float(weight) <= MOST_WEIGHT:
            return float(weight)
    name = f"{WEIGHT} in Dask's configuration" if given is None else "weight"
    raise InputError(
        f"{name} is {weight!r}: give a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, 1 is an equal share"
    )
