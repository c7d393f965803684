"""Parameters of a job: dataclass fields that carry what a command line has to know of them."""

import math
from dataclasses import MISSING, Field, field, fields
from typing import Any

from tritoncluster.errors import InputError


def parameter(
    default: Any,
    *,
    help: str,  # noqa: A002 - the name that click and argparse use
    unit: str = "",
    minimum: float | None = None,
    above: float | None = None,
    demo: Any = MISSING,
    file: bool = False,
) -> Any:
    """Declare a parameter.

    Parameters
    ----------
    default
        Its value when none is given; its type is the parameter's, unless it is None.
    help
        One sentence for the user.
    unit
        The unit of a number, as in "days".
    minimum, above
        The smallest value allowed, or the one that the value must exceed.
    demo
        The value for a demonstration of about a minute; `default` where there is none.
    file
        Whether it is the path of a file, which goes along with a job that runs elsewhere.
    """
    limits = {"minimum": minimum, "above": above}
    return field(default=default, metadata={"help": help, "unit": unit, "demo": demo, "file": file, **limits})


def option_name(item: Field[Any]) -> str:
    """Spell a field as a command-line option."""
    return "--" + item.name.replace("_", "-")


def demo_values(job: type[Any]) -> dict[str, Any]:
    """Collect the parameters of a job that differ in a demonstration."""
    return {item.name: item.metadata["demo"] for item in fields(job) if item.metadata["demo"] is not MISSING}


def check_limits(job: Any) -> None:
    """Raise InputError when a number is outside its limits."""
    for item in fields(job):
        value = getattr(job, item.name)
        if value is None or isinstance(value, str):
            continue
        minimum, above = item.metadata["minimum"], item.metadata["above"]
        if not math.isfinite(value):
            raise InputError(f"{option_name(item)} must be a finite number, not {value}")
        if minimum is not None and value < minimum:
            raise InputError(f"{option_name(item)} must be at least {minimum}, not {value}")
        if above is not None and value <= above:
            raise InputError(f"{option_name(item)} must be greater than {above}, not {value}")
