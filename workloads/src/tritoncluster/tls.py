"""TLS: connections that break alone, and a certificate that has expired.

OpenSSL keeps errors in a queue of the thread, not of the connection, and Python does not clear it before it reads or
writes (python/cpython issue 148594). Since OpenSSL 3.2 a peer that goes away at the end of its handshake leaves "broken
pipe" there, and the next read on any other connection of the event loop takes it for its own: one killed worker takes
the scheduler's connections to all others with it. Every process of a cluster with TLS wants this: given to Dask as a
preload module, or by a call of `break_alone`.
"""

import _ssl
import ctypes
import ssl
import time
from typing import Any

import dask.config
from tornado.iostream import SSLIOStream

from tritoncluster.certificates import follow


def break_alone() -> None:
    """Clear OpenSSL's errors before each read and write of this process's event loops; once is enough."""
    # Not there in a Python that has OpenSSL built in.
    clear = getattr(ctypes.CDLL(getattr(_ssl, "__file__", None)), "ERR_clear_error", None)
    if clear is None or hasattr(SSLIOStream.read_from_fd, "__wrapped__"):
        return
    for name in ("read_from_fd", "write_to_fd", "_do_ssl_handshake"):
        setattr(SSLIOStream, name, _after(clear, getattr(SSLIOStream, name)))


def dask_setup(process: Any) -> None:
    """Do it in the process of a scheduler, a nanny or a worker, which follows its certificates' files then."""
    break_alone()
    follow(process)


def _after(clear: Any, method: Any) -> Any:
    def wrapper(self: SSLIOStream, *args: Any) -> Any:
        clear()
        return method(self, *args)

    wrapper.__wrapped__ = method  # type: ignore[attr-defined]
    return wrapper


def expired_certificate() -> str | None:
    """Name the client's certificate and its last day, if Dask's configuration has one and that day is over.

    A server refuses it, but mostly closes the connection before its word arrives.

    Raises
    ------
    OSError
        When the file can't be read as a certificate.
    """
    path = dask.config.get("distributed.comm.tls.client.cert", None)
    if not path:
        return None
    last = _ssl._test_decode_cert(path)["notAfter"]  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return f"{path}, which expired on {last}" if ssl.cert_time_to_seconds(last) < time.time() else None
