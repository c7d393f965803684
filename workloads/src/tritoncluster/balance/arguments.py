"""What a call is sent: its function and arguments as they are when it is submitted.

They are pickled in the thread that submits the call, all of a call in one go, so that what is the same object twice is
so on the worker too. There each call gets objects of its own, and nobody sees what it does to them: what workers keep
are bytes. Large arrays are those bytes themselves, and read-only. That is what joblib's processes give a call, whose
arrays of more than a megabyte are read-only memory maps.

Pickling again is what sees that something has changed; the memory of arrays is compared instead (`arrays`).
"""

import io
import operator
import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import cloudpickle
import numpy as np

from tritoncluster.balance import functions
from tritoncluster.balance.arrays import READ_ONLY_BYTES, Arrays, Memory
from tritoncluster.balance.callback_contexts import reduce_context, stands_for_nothing
from tritoncluster.balance.contents import SHARED_BYTES, Content, Contents, same_bytes
from tritoncluster.balance.fingerprints import (
    TOO_MANY,
    DoubtError,
    Identity,
    Notes,
    digest_objects,
    is_plain,
    may_have_sets,
)

#: A function and its arguments, as joblib's `delayed` gives them; the function may be pickled already.
Call: TypeAlias = tuple["Callable[..., Any] | Pickled", Sequence[Any], dict[str, Any]]
#: Calls of a run in which too much is taken apart before nobody tries any more.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Pickled:
    """Objects in a pickle.

    Parameters
    ----------
    segments
        The pickle, in parts; one that is a `Content` may be shared with other calls.
    memory
        What its arrays are made of, in their order.
    reusable
        Whether one object made of it serves all calls.
    identity
        What stands for it in other processes; None where nobody asks.
    """

    segments: tuple[Content | bytes, ...] = ()
    memory: tuple[Memory, ...] = ()
    reusable: bool = False
    identity: Identity | None = None

    def contents(self) -> list[Content]:
        """List what may be shared with other calls."""
        parts = [*self.segments, *(each.content for each in self.memory)]
        return [part for part in parts if isinstance(part, Content)]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A call, ready to be sent.

    Parameters
    ----------
    function
        Its function; None where that is in the same pickle as its arguments, as the first of them.
    arguments, keywords
        Arguments that can't change; None in the place of those that are pickled.
    places
        Of what is pickled, in order: the number or name of the argument; None for the function.
    pickled
        The other arguments.
    contents
        What may be shared with other calls.
    """

    function: Pickled | None
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    places: tuple[int | str | None, ...] = ()
    pickled: Pickled = Pickled()
    contents: tuple[Content, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that travel with this call, whether it shares them or not."""
        parts = [*self.pickled.segments, *(each.content for each in self.pickled.memory)]
        return sum(map(len, parts))


class Packer:
    """Pickles calls of one run. For one thread at a time.

    Parameters
    ----------
    contents
        Takes what is large.
    read_only_bytes
        Arrays of more bytes are read-only in calls; None for none.
    identify
        Whether other processes have to know calls again.
    """

    def __init__(
        self, contents: Contents, read_only_bytes: float | None = READ_ONLY_BYTES, *, identify: bool = False
    ) -> None:
        self._contents = contents
        self._identify = identify
        # So often there was too much to take apart.
        self._too_many = 0
        self._arrays = Arrays(contents, read_only_bytes)
        self._functions: dict[int, tuple[tuple[Any, ...], Pickled]] = {}
        # Of functions that scikit-learn wraps: what is in the wrapper, and its pickle.
        self._wrappers: dict[int, tuple[dict[str, Any], Pickled]] = {}
        # Where arguments with large pickles were found: those are pickled first, so that their pickles do not depend
        # on what else a call is sent. And what these were, to be compared with first.
        self._large: dict[int | str | None, weakref.ref[Content]] = {}
        self._reducers = {
            **cloudpickle.Pickler.dispatch_table,
            **dict.fromkeys((np.ndarray, np.memmap), self._arrays.reduce),
        }

    def pack(self, call: Call) -> Parcel:
        """Pickle a call, whose function may be what `pack_function` gave.

        Raises
        ------
        Exception
            What can't be pickled.
        """
        function, args, kwargs = call
        known = function if isinstance(function, Pickled) else self._known_function(function)
        rest: dict[int | str | None, Any] = {} if known else {None: function}
        arguments = tuple(_atom_or_rest(argument, number, rest) for number, argument in enumerate(args))
        keywords = {name: _atom_or_rest(argument, name, rest) for name, argument in kwargs.items()}
        places, pickled = self._pickle(rest) if rest else ((), Pickled())
        contents = (*pickled.contents(), *(known.contents() if known else ()))
        for content in contents:
            self._contents.used(content)
        return Parcel(known, arguments, keywords, places, pickled, contents)

    def pack_function(self, function: Any) -> Pickled:
        """Pickle a function for all calls that have it, as it is now."""
        known = self._known_function(function)
        if known is None:
            _, known = self._pickle({None: function})
        for content in known.contents():
            # For more than this call.
            self._contents.used(content)
            self._contents.used(content)
        return known

    def settle(self) -> None:
        """Make sure that calls so far are sent what they should be.

        Raises
        ------
        arrays.ChangedArgumentError
            When that can't be said.
        """
        self._arrays.settle()

    def _known_function(self, function: Any) -> Pickled | None:
        """Give the pickle of a function that can't change; None for any other."""
        if functions.is_wrapper(function):
            return self._known_wrapper(function)
        references = functions.references(function)
        if references is None:
            return None
        before, known = self._functions.get(id(function), ((), None))
        if known and len(before) == len(references) and all(map(operator.is_, before, references)):
            return known
        _, pickled = self._pickle({None: function})
        known = replace(pickled, reusable=True)
        if len(self._functions) > 100:  # as where each call has a function of its own
            self._functions.clear()
        # What is given the id of a function that is gone is another one, unless it refers to the same.
        self._functions[id(function)] = references, known
        return known

    def _known_wrapper(self, wrapper: Any) -> Pickled | None:
        """Give the pickle of a wrapper of scikit-learn's that is as it was before, or of a new one."""
        inner = getattr(wrapper, "function", None)
        if inner is None or not functions.importable(inner):
            return None
        # A configuration and the filters of warnings, which the program may change at any time.
        now = {name: value.copy() if isinstance(value, dict | list) else value for name, value in vars(wrapper).items()}
        before, known = self._wrappers.get(id(inner), ({}, None))
        if known is None or before != now:
            _, pickled = self._pickle({None: wrapper})
            known = replace(pickled, reusable=True)
            self._wrappers[id(inner)] = now, known
        return known

    def _pickle(self, objects: Mapping[int | str | None, Any]) -> tuple[tuple[int | str | None, ...], Pickled]:
        """Pickle objects as one, each in a part of its own; give the order too."""
        places = sorted(objects, key=lambda place: place not in self._large)
        file = io.BytesIO()
        pickler = (_NotingPickler if self._identify else _Pickler)(file, self._reducers, self._arrays.take_buffer)
        self._arrays.taken = []
        segments: list[Content | bytes] = []
        start = small = 0
        for place in places:
            pickler.dump(objects[place])
            end = file.tell()
            if end - start > SHARED_BYTES:
                with file.getbuffer() as view:
                    if small < start:
                        segments.append(bytes(view[small:start]))
                    segments.append(self._content_at(place, view[start:end]))
                small = end
            start = end
        if small < start:
            segments.append(file.getvalue()[small:])
        memory = tuple(self._arrays.taken)
        identity = None
        if isinstance(pickler, _NotingPickler):
            identity = self._identity([objects[place] for place in places], pickler.notes, segments)
        return tuple(places), Pickled(tuple(segments), memory, identity=identity)

    def _identity(self, objects: Sequence[Any], notes: Notes, segments: Sequence[Content | bytes]) -> Identity:
        """Say what stands for objects that have just been pickled."""
        modules = frozenset(notes.modules)
        if notes.doubt:
            return Identity(modules, doubt=notes.doubt)
        if not notes.by_value and not may_have_sets(segments):
            return Identity(modules)
        if self._too_many >= TRIES:
            return Identity(modules, doubt=TOO_MANY)
        try:
            return Identity(modules, digest_objects(objects, self._arrays.stand_in))
        except DoubtError as doubt:
            self._too_many += str(doubt) == TOO_MANY
            return Identity(modules, doubt=str(doubt))

    def _content_at(self, place: int | str | None, data: memoryview) -> Content:
        content = self._large[place]() if place in self._large else None
        if content is None or not same_bytes(content.data, data):
            content = self._contents.of(data)
            self._large[place] = weakref.ref(content)
        return content


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what `reducers` know as they say, and memory beside the pickle as `take` says."""

    def __init__(self, file: io.BytesIO, reducers: Any, take: Callable[[pickle.PickleBuffer], bool]) -> None:
        # It is looked at while it is made.
        self.dispatch_table = reducers
        super().__init__(file, protocol=5, buffer_callback=take)

    def reducer_override(self, obj: Any) -> Any:
        """Do what cloudpickle does, which has nothing to say of nearly all objects."""
        if is_plain(type(obj)):  # type: ignore[arg-type]
            return NotImplemented
        return reduce_context(obj) if stands_for_nothing(obj) else super().reducer_override(obj)


class _NotingPickler(_Pickler):
    """Takes note of what tells whether the pickle stands for the objects in another process, too."""

    def __init__(self, file: io.BytesIO, reducers: Any, take: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(file, reducers, take)
        self.notes = Notes()

    def reducer_override(self, obj: Any) -> Any:
        """Do the same, and take note of it."""
        if is_plain(type(obj)):  # type: ignore[arg-type]
            return NotImplemented
        reduced = super().reducer_override(obj)
        self.notes.take(obj, reduced)
        return reduced


def _atom_or_rest(argument: Any, place: int | str, rest: dict[int | str | None, Any]) -> Any:
    if functions.is_atom(argument):
        return argument
    rest[place] = argument
    return None
