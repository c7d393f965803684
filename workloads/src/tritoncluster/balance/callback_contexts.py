"""scikit-learn's contexts of callbacks, which it sends to calls, for its callbacks alone.

An estimator's context knows those of all calls so far, when they were made, and a random number: without callbacks it
is most of what a call is sent, is another one each time, and nobody asks it anything. What is sent then is a bare one.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4


def is_callback_context(obj: Any) -> bool:
    """Tell whether this is such a context."""
    return is_context_class(type(obj))


def is_context_class(kind: type) -> bool:
    """Tell whether a class is that of these contexts."""
    return kind.__name__ == "CallbackContext" and kind.__module__.startswith("sklearn.callback.")


def stands_for_nothing(obj: Any) -> bool:
    """Tell whether this is such a context without any callbacks."""
    return is_callback_context(obj) and not obj._callbacks  # noqa: SLF001 - it has no public list of them


def reduce_context(context: Any) -> Any:
    """Give what a bare one is made of, as pickle wants it: what is the same in each process, and for each call."""
    values = {name: value for name, value in vars(context).items() if not isinstance(value, UUID | datetime | dict)}
    new = {name: type(value) for name, value in vars(context).items() if name not in values}
    return make_context, (type(context), new), values


def make_context(kind: type, new: dict[str, type]) -> Any:
    """Make a context of a class, with some values that are new each time."""
    context: Any = object.__new__(kind)
    for name, value in new.items():
        setattr(context, name, uuid4() if value is UUID else datetime.now(UTC) if value is datetime else value())
    return context
