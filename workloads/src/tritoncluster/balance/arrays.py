"""The arrays among the arguments of calls: whose memory is sent, once, and what of it calls may change.

An array's memory is not pickled but compared with the copy of it that was sent before. Only where a large array is
submitted again and again within moments, some comparisons are left out until the last moment; if it shows then that it
was changed in between, nobody can tell what those calls should have seen, and the caller is told.
"""

import pickle
import time
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritoncluster.balance.contents import SHARED_BYTES, Content, Contents, same_bytes

#: Bytes from which on arrays are read-only; joblib's default for its processes ("1M").
READ_ONLY_BYTES = 1 << 20
#: Arrays are compared with what was sent before as long as that takes no longer than so many seconds, and this part of
#: the time since the first call.
COMPARING_SECONDS, COMPARING_SHARE = 0.1, 0.2

#: Makes an array of a buffer.
_from_buffer = np.empty(0).__reduce_ex__(5)[0]
#: Stands in a pickle for the memory of an array, which travels beside it.
_MEMORY = bytearray(1)


@dataclass(frozen=True, slots=True)
class Memory:
    """An array's memory, and whether each call gets a copy of it that it may change."""

    content: Content | bytes
    copied: bool


@dataclass(slots=True)
class _Sent:
    """An array's memory that has been sent before."""

    owner: "weakref.ref[Any]"
    content: "weakref.ref[Content]"
    # Since it was compared last, calls have been sent it: the array, to be compared in the end.
    assumed: "np.ndarray[Any, Any] | None" = None
    changes: bool = False


class ChangedArgumentError(RuntimeError):
    """A large array was changed while calls that are sent it were being submitted, too fast to say which saw what."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(
            f"an array of {nbytes / 1e6:.0f} MB was changed between two of many calls that it is an argument of; give "
            "each call a copy of its own"
        )


class Arrays:
    """The arrays that calls of one run are sent. For one thread at a time.

    Parameters
    ----------
    contents
        Takes what is large.
    read_only_bytes
        Arrays of more bytes are read-only in calls; None for none.
    """

    def __init__(self, contents: Contents, read_only_bytes: float | None) -> None:
        self._contents = contents
        self._read_only_bytes = float("inf") if read_only_bytes is None else read_only_bytes
        self._sent: dict[tuple[Any, ...], _Sent] = {}
        self._begin = time.monotonic()
        self._compared = 0.0
        #: What was taken out of the pickle that is being made, in order.
        self.taken: list[Memory] = []

    def settle(self) -> None:
        """Make sure that calls so far are sent what they should be.

        Raises
        ------
        ChangedArgumentError
            When that can't be said.
        """
        for sent in list(self._sent.values()):
            content = sent.content()
            if sent.assumed is not None and content is not None:
                array, sent.assumed = sent.assumed, None
                if not same_bytes(content.data, _bytes_of(array)):
                    raise ChangedArgumentError(array.nbytes)

    def stand_in(self, array: "np.ndarray[Any, Any]") -> Any:
        """Give what stands for an array of numbers in the digest of what has it."""
        large = array.nbytes > SHARED_BYTES
        content = self._content_of(array).digest if large else bytes(_bytes_of(array))
        return content, array.dtype, array.shape, _order(array), self._is_read_only(array)

    def reduce(self, array: "np.ndarray[Any, Any]") -> Any:
        """Pickle an array without its memory where that is large, as `__reduce_ex__` does."""
        read_only = self._is_read_only(array)
        if type(array) is np.memmap:
            array = np.asarray(array)
        if array.nbytes <= SHARED_BYTES or array.dtype.hasobject:
            if read_only and array.flags.writeable:
                array = array.view()
                array.flags.writeable = False
            return array.__reduce_ex__(5)
        self.taken.append(Memory(self._content_of(array), copied=not read_only))
        return _from_buffer, (pickle.PickleBuffer(_MEMORY), array.dtype, array.shape, _order(array))

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out of a pickle; true leaves it there."""
        with memoryview(buffer) as view:
            if view.obj is _MEMORY:
                return False
            # Of something else than an array, which expects to get what it gave.
            if view.nbytes <= SHARED_BYTES or not view.readonly:
                return True
        with buffer.raw() as raw:
            self.taken.append(Memory(self._contents.of(raw), copied=False))
        return False

    def _is_read_only(self, array: "np.ndarray[Any, Any]") -> bool:
        """Tell whether calls can't change an array."""
        mode = _file_mode(array)
        # A pickle has a copy of what does not lie in one piece, as of a broadcast array, which anybody may change.
        frozen = not array.flags.writeable and array.flags.forc
        if frozen or mode in ("r", "r+", "w+"):
            return True
        small = array.nbytes <= max(SHARED_BYTES, self._read_only_bytes) or array.dtype.hasobject
        return not small and mode != "c"

    def _content_of(self, array: "np.ndarray[Any, Any]") -> Content:
        """Give the content that an array is now."""
        # Views of the same memory are the same, as those that a data frame makes each time.
        owner = _owner(array)
        key = id(owner), array.__array_interface__["data"][0], array.shape, array.strides
        sent = self._sent.get(key)
        content = sent.content() if sent and sent.owner() is owner else None
        if sent and content is not None:
            if self._may_assume(sent, array.nbytes):
                sent.assumed = array
                return content
            begin = time.monotonic()
            data = _bytes_of(array)
            same = same_bytes(content.data, data)
            self._compared += time.monotonic() - begin
            if not same and sent.assumed is not None:
                raise ChangedArgumentError(array.nbytes)
            sent.assumed = None
            if same:
                return content
            changes = True
        else:
            data, changes = _bytes_of(array), False
        content = self._contents.of(data)
        forget = lambda _ref, key=key, table=self._sent: table.pop(key, None)  # noqa: E731
        self._sent[key] = _Sent(weakref.ref(owner, forget), weakref.ref(content), changes=changes)
        return content

    def _may_assume(self, sent: _Sent, nbytes: int) -> bool:
        """Tell whether to leave out, for now, to compare an array with what was sent."""
        if sent.changes or nbytes <= READ_ONLY_BYTES:
            return False
        return self._compared > COMPARING_SECONDS + COMPARING_SHARE * (time.monotonic() - self._begin)


def _order(array: "np.ndarray[Any, Any]") -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _owner(array: "np.ndarray[Any, Any]") -> Any:
    """Give the array whose memory another one shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _file_mode(array: "np.ndarray[Any, Any]") -> str | None:
    """Give the mode of the memory map that an array shows, None if there is none."""
    each: Any = array
    while isinstance(each, np.ndarray):
        if isinstance(each, np.memmap) and getattr(each, "mode", None):
            return str(each.mode)
        each = each.base
    return None


def _bytes_of(array: "np.ndarray[Any, Any]") -> memoryview:
    """Show an array's memory, shape (n,); a copy of it where it has gaps."""
    flat = np.ascontiguousarray(array.ravel(order="A" if array.flags.forc else "C"))
    return flat.view(np.uint8).data
