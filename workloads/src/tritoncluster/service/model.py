"""A job as the service knows it."""

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from tritoncluster.errors import InputError

#: No letter or digit here has a look-alike. Five of them are 28 million.
LETTERS, LENGTH = "abcdefghjkmnpqrstuvwxyz23456789", 5
ID = re.compile(f"[{LETTERS}]{{{LENGTH}}}")
#: In the environment of a job's processes: whose they are. What they start inherits it.
MARK = "TRITONCLUSTER_JOB"
#: What a job can be: commands of `tritoncluster`.
KINDS = ("run", "scale", "submit")
MOST_RETRIES, MOST_PRIORITY, MOST_WORDS = 100, 1000, 10_000


class State(StrEnum):
    """What becomes of a job: it waits, runs, and ends in one of three ways."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether it is over, unless somebody asks for it again."""
        return self not in (State.WAITING, State.RUNNING)


@dataclass(frozen=True)
class Request:
    """What somebody wants to have run.

    Parameters
    ----------
    kind, words
        A command of `tritoncluster`, and what follows it, as ("forest", "--trees=500"); files are named as they are
        called in what was sent along.
    title
        What it is, for people.
    priority
        Higher ones are first.
    max_time
        Seconds that it may run, in all its attempts together; None for no limit.
    retries
        How often it is started again when it fails.
    """

    kind: str
    words: tuple[str, ...]
    title: str
    priority: int = 0
    max_time: float | None = None
    retries: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` takes."""
        return {name: getattr(self, name) for name in ("kind", "title", "priority", "max_time", "retries")} | {
            "words": list(self.words)
        }

    @classmethod
    def from_json(cls, content: Any) -> "Request":
        """Read a request.

        Raises
        ------
        InputError
            When it is none.
        """
        match content:
            case {
                "kind": str(kind),
                "words": [*words],
                "title": str(title),
                "priority": int(priority),
                "max_time": float() | int() | None as max_time,
                "retries": int(retries),
            } if (
                kind in KINDS
                and 0 < len(words) <= MOST_WORDS
                and all(isinstance(word, str) and "\0" not in word for word in words)
                and abs(priority) <= MOST_PRIORITY
                and (max_time is None or 0 < max_time < float("inf"))
                and 0 <= retries <= MOST_RETRIES
            ):
                return cls(kind, tuple(words), title[:200], priority, max_time, retries)
        raise InputError("this is no job that this service knows; client and service have to be of the same version")


@dataclass(frozen=True)
class Job:
    """A job that was accepted.

    Parameters
    ----------
    id
        Short, to be typed.
    key
        The UUID that its client gave it: the same one again is the same job.
    who
        The common name of the certificate that it came with.
    request
        What is to be run.
    state
        See `State`.
    reason
        Why it failed, or who cancelled it; "" otherwise.
    exit_status
        The program's, None where there is none.
    attempts
        How often it was begun, but for those times that only the service's own end broke off.
    arrived, started, ended
        When, in seconds since 1970; None where it has not yet. `started` is the first time.
    """

    id: str
    key: str
    who: str
    request: Request
    state: State
    reason: str
    exit_status: int | None
    attempts: int
    arrived: float
    started: float | None
    ended: float | None

    def to_json(self) -> dict[str, Any]:
        """Give all of it for programs."""
        return self.request.to_json() | {
            "id": self.id,
            "key": self.key,
            "who": self.who,
            "state": str(self.state),
            "reason": self.reason,
            "exit_status": self.exit_status,
            "attempts": self.attempts,
            "arrived": self.arrived,
            "started": self.started,
            "ended": self.ended,
        }


def new_id() -> str:
    """Make an ID; that nobody has it, the store sees to."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def is_key(text: str) -> bool:
    """Tell whether this is a UUID in its usual form."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
