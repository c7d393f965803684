"""Waiting for the event loop, and Ctrl-C at any moment of it."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from typing import Any

import pytest

from tritoncluster.balance.bell import Bell
from tritoncluster.balance.outcomes import Room


def interrupted_at(moment: int, work: Callable[[], Any]) -> bool:
    """Do some work, in which Ctrl-C comes after so many events of Python's tracing; tell whether it came.

    In a thread of its own: what is raised where no Python code could raise may stay that thread's context of errors.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_interrupted, moment, work).result()


def _interrupted(moment: int, work: Callable[[], Any]) -> bool:
    left = count(moment, -1)

    def trace(*_event: Any) -> Any:
        if next(left) == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize(
    "work",
    [lambda room: room.take(1), lambda room: room.wait(0.001), lambda room: room.left, lambda room: room.close()],
    ids=["take", "wait", "left", "close"],
)
def test_ctrl_c_at_any_moment_leaves_nobody_waiting(work: Callable[[Room], Any]):
    for moment in count():
        room = Room(1, 10)
        room.take(20)
        came = interrupted_at(moment, lambda room=room: work(room))
        loop = threading.Thread(target=lambda room=room: [room.give_back(1, 20), room.close()], daemon=True)
        loop.start()
        loop.join(30)
        assert not loop.is_alive(), f"locked by Ctrl-C at event {moment}"
        assert room.left
        if not came:
            break
    assert moment > 1


def test_a_bell_wakes_all_who_wait_once_it_holds():
    bell, holds, woken = Bell(), [False], SimpleQueue[bool]()
    assert not bell.wait_for(lambda: holds[0], 0.01)
    waiting = [
        threading.Thread(target=lambda: woken.put(bell.wait_for(lambda: holds[0], 60)), daemon=True) for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    while len(bell._waiting) < 3:
        pass
    bell.ring()
    assert woken.empty()
    holds[0] = True
    bell.ring()
    assert [woken.get(timeout=30) for _ in waiting] == [True] * 3
    assert not bell.heard
