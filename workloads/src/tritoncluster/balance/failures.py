"""What a call raised, as data: it travels like a result, so that nothing that a call raises ends a worker or its tasks.

The caller gets it as it was raised, whatever kind of exception it is.
"""

import pickle
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cloudpickle


def dump_error(error: BaseException) -> tuple[bytes, str]:
    """Pickle an exception with its traceback as a note, and say in words what it was."""
    frames = traceback.extract_tb(error.__traceback__)
    # The first is ours.
    lines = ["Traceback on the worker (most recent call last):\n", *traceback.format_list(frames[1:])]
    with suppress(Exception):  # as a class may have a note that is no list
        BaseException.add_note(error, "".join(lines).rstrip("\n"))
    words = _words(error)
    best = b""
    for candidate in _candidates(error, words):
        with suppress(BaseException):
            pickled = cloudpickle.dumps(candidate)
            found = pickle.loads(pickled)  # noqa: S301 - made a moment ago
            if isinstance(found, BaseException):
                best = best or pickled
                if _words(found) == words:
                    return pickled, words
    return best, words


def load_error(pickled: bytes, words: str) -> BaseException:
    """Give the exception back; a RuntimeError where that can't be done here."""
    with suppress(BaseException):
        error = pickle.loads(pickled)  # noqa: S301 - from our own worker, as any result
        if isinstance(error, BaseException):
            return error
    return RuntimeError(words)


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as other:  # noqa: BLE001 - the user's own
        text = f"(its text can't be told: {type(other).__name__})"
    return f"{type(error).__name__}: {text}"


def _candidates(error: BaseException, words: str) -> Iterator[BaseException]:
    """Give an exception, then what is more and more roughly the same and can be pickled more easily."""
    yield error
    # They become exceptions where they are unpickled.
    yield _Rebuilt(error, call=True)  # type: ignore[misc]
    yield _Rebuilt(error, call=False)  # type: ignore[misc]
    for kind in type(error).__mro__[1:]:
        if issubclass(kind, BaseException):
            with suppress(Exception):
                other = kind(words)
                for note in getattr(error, "__notes__", ()):
                    other.add_note(note)
                yield other


class _Rebuilt:
    """Pickles an exception, with or without a call of its class, which may want other arguments than `args`."""

    def __init__(self, error: BaseException, *, call: bool) -> None:
        self._error, self._call = error, call

    def __reduce__(self) -> Any:
        state = {name: value for name, value in vars(self._error).items() if _can_be_pickled(value)}
        args = tuple(map(_as_can_be_pickled, self._error.args))
        return _rebuild, (type(self._error), args, state, self._call)


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], call: bool) -> BaseException:  # noqa: FBT001 - of a pickle
    error = kind(*args) if call else kind.__new__(kind, *args)
    if not isinstance(error, BaseExceptionGroup):
        error.args = args
    vars(error).update(state)
    return error


def _as_can_be_pickled(value: Any) -> Any:
    if _can_be_pickled(value):
        return value
    if isinstance(value, BaseException):
        return _Rebuilt(value, call=False)
    # As a group has them.
    return list(map(_as_can_be_pickled, value)) if isinstance(value, list | tuple) else repr(value)


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.loads(cloudpickle.dumps(value))  # noqa: S301 - made a moment ago
    except BaseException:  # noqa: BLE001 - the user's own
        return False
    return True
