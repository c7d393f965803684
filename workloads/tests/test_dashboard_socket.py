"""A scheduler whose HTTP is on a socket in a folder."""

import asyncio
import http.client
import socket
import stat
from pathlib import Path

import pytest
from distributed import Scheduler


def ask(place: str, path: str) -> tuple[int, str]:
    """Ask over the socket; return status and body."""
    connection = http.client.HTTPConnection("scheduler", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    with connection.sock:
        connection.sock.connect(place)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_on_the_socket_and_on_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "http"
    monkeypatch.setenv("SCHEDULER_HTTP_SOCKET", str(place))
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "preload": ["tritoncluster.dashboard_socket"]}

    async def look() -> None:
        async with Scheduler(dashboard=False, **options) as scheduler:
            assert await asyncio.to_thread(ask, str(place), "/health") == (200, "ok")
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", scheduler.http_server.port), 5)

    asyncio.run(look())
    # Another one takes the place of one that was killed and left its socket.
    assert place.exists()
    asyncio.run(look())
