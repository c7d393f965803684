"""What tells a call from all others, in this process and in those that come after it.

Two calls with the same fingerprint get the same: the same function, the same arguments to the last bit, the same code
of modules that they name. The bytes that a call is sent say all of that, and are what the fingerprint is made of. Two
things need more than bytes:

- Functions and classes that a script defines travel with it, and their pickles differ from process to process, in
  numbers that cloudpickle gives, in line numbers, in the order of sets. They are digested part by part: code,
  constants, defaults, closures, and whatever global names the code has, recursively, just as they are pickled.
- Of what is imported, only the name travels. Its code is digested by who knows where it comes from
  (`journal/surroundings.py`).

A fingerprint that differs without need costs a computation; one that does not differ where it should, a wrong result.
So what is not understood here has none.
"""

import io
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from tritoncluster.balance.callback_contexts import (
    is_callback_context,
    is_context_class,
    make_context,
    stands_for_nothing,
)
from tritoncluster.balance.contents import Content
from tritoncluster.balance.functions import is_wrapper, is_wrapper_class

if TYPE_CHECKING:
    from tritoncluster.balance.arguments import Parcel, Pickled
    from tritoncluster.balance.arrays import Memory

#: Bytes of a digest.
SIZE = 16
#: How a set that is not empty begins in a pickle, and how a frozenset ends: what is in them comes in another order in
#: each process. One byte of these alone is in any data.
_SETS = (pickle.EMPTY_SET + pickle.MEMOIZE + pickle.MARK, pickle.FROZENSET + pickle.MEMOIZE)
#: Of a class's attributes: where it stands in its file, and what comes in any order.
_NOT_MEANT = ("__firstlineno__", "__static_attributes__")
#: The one in Python, of which all can be overridden; joblib's hash is made with it, too.
_Pickler: Any = pickle._Pickler  # noqa: SLF001
#: Functions whose digests are kept.
_FUNCTIONS = 100
#: Objects that are taken apart for a call, some hundredths of a second.
MOST_OBJECTS = 20_000
TOO_MANY = (
    f"a call is sent more than {MOST_OBJECTS:,} objects along with functions or classes of the script; pass large data "
    "as arrays, or define these in a module beside the script"
)
#: Bytes of a pickle in which sets are looked for.
SET_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Identity:
    """What stands for objects beside their pickle.

    Parameters
    ----------
    modules
        Top-level modules that the pickle names.
    digest
        Stands in for a pickle that is another one in each process; None where the pickle does.
    doubt
        Why neither does; "" where one does.
    """

    modules: frozenset[str]
    digest: bytes | None = None
    doubt: str = ""


class DoubtError(Exception):
    """Nobody can say what a call depends on; the message says why."""


class Fingerprints:
    """Makes fingerprints of the calls of a run.

    Parameters
    ----------
    surroundings
        Gives the digest of all that calls depend on which name some modules.
    """

    def __init__(self, surroundings: Callable[[frozenset[str]], bytes]) -> None:
        self._surroundings = surroundings
        self._functions: dict[int, tuple[Pickled, bytes]] = {}

    def of(self, parcel: "Parcel") -> bytes:
        """Give a call's fingerprint.

        Raises
        ------
        DoubtError
            When it has none.
        """
        for argument in (*parcel.arguments, *parcel.keywords.values()):
            if isinstance(argument, str) and ("." in argument or os.sep in argument) and Path(argument).is_file():
                raise DoubtError(f"a call is sent the name of the file {argument}, and may read it")
        function = self._function(parcel.function) if parcel.function else b""
        parts = [pickle.dumps((parcel.arguments, parcel.keywords, parcel.places), protocol=5), function]
        modules = parcel.function.identity.modules if parcel.function and parcel.function.identity else frozenset()
        if parcel.places:
            parts += _parts_of(parcel.pickled)
            modules |= parcel.pickled.identity.modules if parcel.pickled.identity else frozenset()
        return together([self._surroundings(modules), *parts])

    def _function(self, pickled: "Pickled") -> bytes:
        known = self._functions.get(id(pickled))
        if known and known[0] is pickled:
            return known[1]
        digest = together(_parts_of(pickled))
        if len(self._functions) > _FUNCTIONS:
            self._functions.clear()
        self._functions[id(pickled)] = pickled, digest
        return digest


def together(parts: Iterable[bytes]) -> bytes:
    """Digest several things, of which none runs into the next."""
    digest = blake2b(digest_size=SIZE)
    for part in parts:
        digest.update(b"%d " % len(part))
        digest.update(part)
    return digest.digest()


def _parts_of(pickled: "Pickled") -> list[bytes]:
    """Give what stands for objects in a pickle: each part has a letter for its kind."""
    if pickled.identity is None or pickled.identity.doubt:
        raise DoubtError(pickled.identity.doubt if pickled.identity else "nobody has looked at what a call is sent")
    if pickled.identity.digest is not None:
        return [b"d" + pickled.identity.digest]
    parts = [b"c" + each.digest if isinstance(each, Content) else b"b" + each for each in pickled.segments]
    return [*parts, *map(_memory, pickled.memory)]


def _memory(memory: "Memory") -> bytes:
    content = memory.content
    digest = content.digest if isinstance(content, Content) else together([content])
    return b"w" + digest if memory.copied else b"r" + digest


def may_have_sets(segments: Sequence[Content | bytes]) -> bool:
    """Tell whether a pickle may have a set, so that it does not stand for its objects.

    In a large one nobody looks: taking it apart takes long, and the order of a set of numbers is the same everywhere.
    """
    return sum(map(len, segments)) <= SET_BYTES and any(
        mark in (part.data if isinstance(part, Content) else part) for part in segments for mark in _SETS
    )


def digest_objects(objects: Iterable[Any], array: Callable[["np.ndarray[Any, Any]"], Any]) -> bytes:
    """Digest objects that are pickled with what they refer to, such that it is the same in another process.

    Parameters
    ----------
    objects
        Anything that can be pickled.
    array
        Gives what stands for an array: something that has all of it and can be pickled.

    Raises
    ------
    DoubtError
        When there is something that is not understood.
    """
    file = io.BytesIO()
    pickler = _Canonical(file, array)
    try:
        for each in objects:
            pickler.dump(each)
    except DoubtError:
        raise
    except Exception as error:  # noqa: BLE001 - objects pickle themselves as they like
        raise DoubtError(f"what a call is sent can't be taken apart ({type(error).__name__}: {error})") from None
    return blake2b(file.getbuffer(), digest_size=SIZE).digest()


class _Canonical(_Pickler):  # type: ignore[misc]
    """Pickles to be digested, never to be read: what means the same gives the same bytes in any process."""

    dispatch = _Pickler.dispatch.copy()

    def __init__(self, file: io.BytesIO, array: Callable[["np.ndarray[Any, Any]"], Any]) -> None:
        super().__init__(file, protocol=5)
        self.dispatch_table = cloudpickle.Pickler.dispatch_table
        self._array = array
        self._reducer = cloudpickle.Pickler(io.BytesIO())
        self._left = MOST_OBJECTS

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:  # noqa: FBT001, FBT002 - pickle's signature
        """Save an object, if there have not been too many."""
        self._left -= 1
        if self._left < 0:
            raise DoubtError(TOO_MANY)
        super().save(obj, save_persistent_id)

    def memoize(self, obj: Any) -> None:
        """Remember an object; whether two equal texts are one object means nothing."""
        if type(obj) not in (str, bytes):
            super().memoize(obj)

    def reducer_override(self, obj: Any) -> Any:  # noqa: PLR0911 - a table of kinds
        """Take apart what travels by its content."""
        if is_callback_context(obj):
            if not stands_for_nothing(obj):
                raise DoubtError(
                    "callbacks that an estimator has would not be called where a result is taken from disk"
                )
            return _as_nothing, ()
        if is_wrapper(obj):
            return _as_wrapper, (_wrapper(obj),)
        if isinstance(obj, CodeType):
            return _as_code, _code(obj)
        if type(obj) in (np.ndarray, np.memmap) and not obj.dtype.hasobject:
            return _as_array, (self._array(obj),)
        if isinstance(obj, FunctionType):
            return self._function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        return NotImplemented

    def _function(self, function: FunctionType) -> Any:
        reduced = self._reducer.reducer_override(function)
        if reduced is NotImplemented:
            return NotImplemented
        _make, (code, own_globals, *rest), (state, slots), *_ = reduced
        slots = {**slots, "__globals__": dict(sorted(slots["__globals__"].items()))}
        # What of them is imported by now depends on what else has run.
        slots.pop("_cloudpickle_submodules", None)
        return _as_function, (code, own_globals, *rest), (state, slots)

    def _class(self, kind: type) -> Any:
        reduced = self._reducer.reducer_override(kind)
        if reduced is NotImplemented or len(reduced) < 3:
            return reduced
        make, arguments, (attributes, slots), *_ = reduced
        # A number of cloudpickle's, for this process alone.
        number = cloudpickle.cloudpickle._get_or_create_tracker_id(kind)  # noqa: SLF001
        arguments = tuple(None if argument is number else argument for argument in arguments)
        attributes = {name: value for name, value in attributes.items() if name not in _NOT_MEANT}
        return _as_class, (make.__name__, *arguments), (attributes, slots)

    def _save_set(self, values: Any) -> None:
        digests = sorted(digest_objects([_plain(value)], self._array) for value in values)
        self.save_reduce(_as_set, (type(values).__name__, digests), obj=values)

    dispatch[set] = dispatch[frozenset] = _save_set


def _plain(value: Any) -> Any:
    """Give an element of a set; only of one that is the same wherever it is equal, its digest says all."""
    if type(value) in (str, bytes, int, float, complex, bool, type(None)):
        return value
    if type(value) in (tuple, frozenset):
        for each in value:
            _plain(each)
        return value
    raise DoubtError(f"a call is sent a set of {type(value).__name__} objects, which have no order")


def _code(code: CodeType) -> tuple[Any, ...]:
    """Give all of a function's code but where it stands."""
    return (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals, code.co_stacksize),
        *(code.co_flags, code.co_code, code.co_exceptiontable, code.co_consts, tuple(code.co_names)),
        *(tuple(code.co_varnames), tuple(code.co_freevars), tuple(code.co_cellvars), code.co_name, code.co_qualname),
    )


def _wrapper(wrapper: Any) -> dict[str, Any]:
    """Give what scikit-learn wraps in a wrapper, but for warnings that are only shown.

    Their filters change all the time, as in other threads that ignore a warning for a moment. A warning that is an
    error is one in a call, too.
    """
    content = dict(vars(wrapper))
    content["warning_filters"] = [each for each in content.get("warning_filters", ()) if each[0] == "error"]
    return content


@lru_cache(maxsize=1000)
def is_plain(kind: type) -> bool:
    """Tell whether the pickles of objects of a class stand for them, whatever these are: as of nearly all classes."""
    special = issubclass(kind, (FunctionType, type, ModuleType, PurePath)) or is_wrapper_class(kind)
    return not (special or is_context_class(kind) or _is_dasks(kind))


def _is_dasks(kind: type) -> bool:
    return kind.__module__.startswith("distributed.")


def _doubt_of(obj: Any) -> str:
    """Say why nobody knows what an object stands for in another process; "" where its pickle says all of it."""
    if isinstance(obj, PurePath) and os.path.lexists(obj):
        return f"a call is sent the path {obj}, and may read what is there"
    if _is_dasks(type(obj)):
        return f"a call is sent a {type(obj).__name__} of Dask's, which has only the name of what is on the cluster"
    return ""


class Notes:
    """What is seen of objects while they are pickled.

    Attributes
    ----------
    modules : set of str
        Top-level modules of what is pickled by its name.
    by_value : bool
        Whether the pickle is another one in each process.
    doubt : str
        Why nobody knows what it stands for; "" where it is known.
    """

    __slots__ = ("by_value", "doubt", "modules")

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.by_value = False
        self.doubt = ""

    def take(self, obj: Any, reduced: Any) -> None:
        """Take note of an object that is no plain container or value, and of what cloudpickle makes of it."""
        if isinstance(obj, (FunctionType, type)):
            if obj is make_context:
                return
            module = obj.__module__
            # Types such as that of None have a reducer of two parts.
            self.by_value = self.by_value or (reduced is not NotImplemented and len(reduced) > 2)
        elif isinstance(obj, ModuleType):
            module = obj.__name__
        else:
            if is_callback_context(obj) or is_wrapper(obj):
                self.by_value = self.by_value or not stands_for_nothing(obj)
            else:
                self.doubt = self.doubt or _doubt_of(obj)
            return
        if isinstance(module, str):
            self.modules.add(module.partition(".")[0])


# They stand in pickles that nobody reads.


def _as_nothing(*_parts: Any) -> None: ...


def _as_wrapper(*_parts: Any) -> None: ...


def _as_array(*_parts: Any) -> None: ...


def _as_code(*_parts: Any) -> None: ...


def _as_function(*_parts: Any) -> None: ...


def _as_class(*_parts: Any) -> None: ...


def _as_set(*_parts: Any) -> None: ...
