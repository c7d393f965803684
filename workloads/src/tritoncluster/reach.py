"""Why no scheduler answers at an address: what is there instead, found out by talking to it."""

import asyncio
import itertools
import re
import socket
import ssl
import struct
from typing import Any

import dask.config
from distributed.comm import connect, parse_address, parse_host_port
from distributed.comm.registry import backends
from distributed.security import Security

#: Seconds for whatever listens there to say or answer something.
PATIENCE = 2.0
#: A Dask server greets whoever connects, with a message whose length comes first.
GREETING = struct.Struct("<Q")
LONGEST_GREETING = 1 << 16
PORTS = 1 << 16
#: Seconds for connections that are tried one after the other, again and again: a host that is gone answers nothing, and
#: one that is busy may take long for TLS; and between two of them.
ATTEMPTS, BETWEEN = (2.0, 4.0, 8.0, 16.0), 0.5


class UnreachableError(OSError):
    """No scheduler answers.

    Parameters
    ----------
    reason
        Why.
    remedy
        What to do, where the reason tells; else there is more than one thing to check.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


async def knock(address: str, seconds: float) -> None:
    """Connect to the scheduler, exchange greetings, and part.

    Dask's own client has a time-out too, but waits for ever for a server that accepts connections and says nothing.

    Raises
    ------
    UnreachableError
        When that is not done within `seconds`.
    """
    _check(address)
    arguments = Security().get_connection_args("client")
    try:
        comm = await asyncio.wait_for(connect(address, timeout=seconds, **arguments), seconds)
    except Exception as error:  # noqa: BLE001 - what something else than Dask sends can be taken for anything
        raise await asyncio.to_thread(_explain, address, error, seconds) from None
    comm.abort()


async def listens(address: str, arguments: dict[str, Any]) -> None:
    """Wait until something accepts connections at a scheduler's address, and see that soon.

    Dask's own `connect` waits for random times between its attempts, which grow as long as it has waited already.

    Parameters
    ----------
    address
        The scheduler's.
    arguments
        What `Security.get_connection_args` gives.
    """
    scheme, location = parse_address(address)
    for seconds in itertools.cycle(ATTEMPTS):
        try:
            connector = backends[scheme].get_connector()
            comm = await asyncio.wait_for(connector.connect(location, deserialize=False, **arguments), seconds)
        except OSError:
            await asyncio.sleep(BETWEEN)
        else:
            comm.abort()
            return


def _check(address: str) -> None:
    """Refuse what can't be the address of a scheduler.

    Raises
    ------
    UnreachableError
        With the reason.
    """
    example = "an address is like tcp://desktop:8786"
    try:
        scheme, location = parse_address(address)
        port = parse_host_port(location)[1] if scheme in ("tcp", "tls") else None
    except (ValueError, TypeError) as error:
        raise UnreachableError(str(error), example) from None
    if scheme not in backends:
        raise UnreachableError(f"a scheduler's address does not begin with {scheme}://", example)
    if port is not None and not 0 < port < PORTS:
        raise UnreachableError(f"there is no port {port}", "a scheduler's is mostly 8786")
    if scheme == "tls" and not dask.config.get("distributed.comm.tls.client.cert", None):
        raise UnreachableError(
            "tls:// needs a certificate",
            "name ca.crt, tls.crt and tls.key under distributed.comm.tls in Dask's configuration, or in "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY",
        )


def _explain(address: str, error: BaseException, seconds: float) -> UnreachableError:
    """Say why no scheduler answered."""
    scheme, location = parse_address(address)
    if scheme not in ("tcp", "tls"):
        return UnreachableError(_last(error) or f"no answer in {seconds:g} s")
    try:
        return (
            _what_is_there(scheme, parse_host_port(location))
            # It is a scheduler, and what it said does not suit us.
            or (UnreachableError(_last(error)) if _last(error) else None)
            or UnreachableError(f"it accepted the connection but did not answer in {seconds:g} s")
        )
    except TimeoutError:
        return UnreachableError(f"no connection in {seconds:g} s")
    except OSError as refused:
        return UnreachableError(refused.strerror or str(refused))


def _what_is_there(scheme: str, target: tuple[str, int]) -> UnreachableError | None:
    """Find out what is there instead of a scheduler that is spoken to in the right way; None if nothing tells."""
    heard = _ask(target, b"")
    if _is_greeting(heard):
        return UnreachableError("the scheduler there does not use TLS", "write tcp://") if scheme == "tls" else None
    if not heard and _speaks_tls(target):
        uses = UnreachableError("what is there uses TLS", "write tls://, and name your certificates")
        return uses if scheme == "tcp" else None
    heard = heard or _ask(target, b"GET / HTTP/1.0\r\n\r\n")
    if heard.startswith(b"HTTP/"):
        return UnreachableError(
            "a web server answers there", "give the scheduler's port, mostly 8786, not the dashboard's"
        )
    if heard:
        return UnreachableError(f"something else answers there: {_readable(heard)}", "give the scheduler's port")
    return None


def _ask(target: tuple[str, int], words: bytes) -> bytes:
    with socket.create_connection(target, PATIENCE) as connection:
        connection.sendall(words)
        return _listen(connection)


def _listen(connection: socket.socket) -> bytes:
    connection.settimeout(PATIENCE)
    try:
        return connection.recv(64)
    except OSError:
        return b""


def _is_greeting(heard: bytes) -> bool:
    return len(heard) > GREETING.size and 0 < GREETING.unpack_from(heard)[0] < LONGEST_GREETING


def _speaks_tls(target: tuple[str, int]) -> bool:
    # Whose certificate it is does not matter here: nothing is told to it.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(target, PATIENCE) as connection, context.wrap_socket(connection):
            return True
    except ssl.SSLError as error:
        # An alert, as of who wants a certificate of ours, is TLS too.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _readable(heard: bytes) -> str:
    return repr(re.sub(r"[^ -~]+", " ", heard.decode(errors="replace")).strip()[:40])


def _last(error: BaseException) -> str:
    """Say what is at the bottom of an error; Dask's chain the reasons of each attempt."""
    chain = [error]
    while below := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(below)
    told = [each for each in chain if not isinstance(each, asyncio.CancelledError) and str(each)]
    return " ".join(f"{type(told[-1]).__name__} {told[-1]}".split()) if told else ""
