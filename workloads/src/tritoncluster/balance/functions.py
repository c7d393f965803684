"""Functions that mean the same however often they are called: one pickle of them, and one object, serve all calls.

A function that a script defines is pickled with all that it refers to, which takes longer than a short call does. When
that can't change, it need not be pickled for each call, nor unpickled.
"""

import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from cloudpickle.cloudpickle import list_registry_pickle_by_value

#: Types whose objects never change: what they hold is sent as it is.
ATOMS = frozenset({int, float, complex, bool, type(None), np.bool_, np.int32, np.int64, np.float32, np.float64})
SHORT_ATOMS = frozenset({str, bytes, tuple})
#: Characters, bytes or elements of what is sent as it is.
SHORT = 100
#: What lets code change its own function, or see through what it names.
_REFLECTION = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr", "delattr", "__globals__", "__dict__"})
#: Instructions that change what a function refers to; the latter do so where the variable is not its own.
_REBINDING = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"})
_REBINDING_IF_FREE = frozenset({"STORE_DEREF", "DELETE_DEREF"})


def name_of(function: Any) -> str:
    """Name a function for people, as in the names of tasks."""
    return str(getattr(_inner(function), "__name__", "call")).strip("_<>") or "call"


def work_of(function: Any) -> str:
    """Name a function so that another one has another name, but where both are imported from the same place."""
    function = _inner(function)
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None)
    if code is None or importable(function):
        return name
    content = repr((code.co_code, code.co_names, [each for each in code.co_consts if is_atom(each)]))
    return f"{name}-{blake2b(content.encode(), digest_size=4).hexdigest()}"


def is_atom(value: Any) -> bool:
    """Tell whether a value is small, and nothing can change it, nor tell it from a copy."""
    kind = type(value)
    if kind in ATOMS:
        return True
    return kind in SHORT_ATOMS and len(value) < SHORT and (kind is not tuple or all(map(is_atom, value)))


def importable(value: Any) -> bool:
    """Tell whether workers find a function or class by its name, in a module of theirs."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or name is None or "<" in name or _by_value(module):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _inner(function: Any) -> Any:
    # scikit-learn wraps what it delays, and functools.partial what it calls.
    function = getattr(function, "function", function)
    return getattr(function, "func", function)


def is_wrapper(value: Any) -> bool:
    """Tell whether this is what scikit-learn wraps a function in, anew for each call: with its configuration."""
    return is_wrapper_class(type(value))


def is_wrapper_class(kind: type) -> bool:
    """Tell whether a class is that of these wrappers."""
    return kind.__name__ == "_FuncWrapper" and kind.__module__ == "sklearn.utils.parallel"


def references(function: Any) -> tuple[Any, ...] | None:
    """Give what a function refers to, when none of it can change; None otherwise.

    As long as these are the same objects, the function is the same. One that workers import refers to itself.
    """
    if isinstance(function, FunctionType | BuiltinFunctionType | type) and importable(function):
        return (function,)
    if type(function) is not FunctionType or function.__dict__:
        return None
    names = _global_names(function.__code__)
    if names is None:
        return None
    values: list[Any] = [function.__code__, function.__defaults__, *(function.__kwdefaults__ or {}).values()]
    try:
        values += [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a variable that has no value yet
        return None
    values += [function.__globals__[name] for name in names if name in function.__globals__]
    return tuple(values) if all(map(_constant, values[1:])) else None


def _constant(value: Any) -> bool:
    return (
        is_atom(value)
        or isinstance(value, BuiltinFunctionType)
        or (
            isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value and not _by_value(value.__name__)
        )
        or (isinstance(value, FunctionType | type) and importable(value))  # workers have their own
    )


def _by_value(module: str) -> bool:
    """Tell whether what a module defines is sent as it is now, rather than by its name."""
    names = module.split(".")
    registered = list_registry_pickle_by_value()
    return module == "__main__" or any(".".join(names[: end + 1]) in registered for end in range(len(names)))


@lru_cache(maxsize=1000)
def _global_names(code: CodeType) -> frozenset[str] | None:
    """List the global names in code, and in functions inside it; None where it may change what it refers to."""
    names: set[str] = set()
    for each in _nested(code):
        if _REFLECTION.intersection(each.co_names) or _rebinds(each):
            return None
        names.update(each.co_names)
    return frozenset(names)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _rebinds(code: CodeType) -> bool:
    return any(
        instruction.opname in _REBINDING
        or (instruction.opname in _REBINDING_IF_FREE and instruction.argval in code.co_freevars)
        for instruction in dis.get_instructions(code)
    )
