"""Which hosts answer: one answer of a host is enough, whatever it says."""

import contextlib
import socket
from contextlib import closing

import pytest
from node_reach import unreached


@pytest.fixture
def listening():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent():
    """Give the address and port of one who says nothing to anybody any more: others wait to be let in."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


def free():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def test_who_listens_and_who_refuses_is_there(listening):
    assert unreached({"a": "127.0.0.1"}, [listening], 5) == {}
    assert unreached({"a": "127.0.0.1"}, [free()], 5) == {}


def test_who_says_nothing_is_not(listening, silent):
    address, port = silent
    assert unreached({"silent": address, "a": "127.0.0.1"}, [port], 0.5) == {"silent": address}
    # One port that answers is enough.
    assert unreached({"silent": address, "a": "127.0.0.1"}, [port, listening], 5) == {}
    assert unreached({}, [22], 0.5) == {}
