"""Connections with TLS, in one event loop."""

import _ssl
import asyncio
import ctypes
import ssl
import subprocess
from pathlib import Path

import pytest
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient
from tornado.tcpserver import TCPServer

from tritoncluster.tls import break_alone

#: What OpenSSL calls the operating system's errors, and the error of a connection that the other end has closed.
ERR_LIB_SYS, BROKEN_PIPE = 2, 32


class Echo(TCPServer):
    async def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:  # noqa: ARG002
        while True:
            await stream.write(await stream.read_bytes(1))


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Settings of a server and of a client that trusts it."""
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", tmp_path / "key", "-out", tmp_path / "crt"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, *files], check=True, capture_output=True
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    return server, ssl.create_default_context(cafile=str(tmp_path / "crt"))


def test_an_error_of_another_connection_is_not_taken_for_its_own(contexts: tuple[ssl.SSLContext, ssl.SSLContext]):
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    if not hasattr(library, "ERR_set_error"):
        pytest.skip("this Python has OpenSSL built in: no error can be put there")
    break_alone()
    break_alone()

    async def talk() -> bytes:
        server = Echo(ssl_options=contexts[0])
        server.listen(0, "127.0.0.1")
        port = next(iter(server._sockets.values())).getsockname()[1]
        stream = await TCPClient().connect("localhost", port, ssl_options=contexts[1])
        heard = b""
        for _ in range(3):
            # As a connection leaves it that breaks at the end of its handshake.
            library.ERR_new()
            library.ERR_set_error(ERR_LIB_SYS, BROKEN_PIPE, None)
            await stream.write(b"x")
            heard += await stream.read_bytes(1)
        server.stop()
        stream.close()
        return heard

    assert asyncio.run(talk()) == b"xxx"
