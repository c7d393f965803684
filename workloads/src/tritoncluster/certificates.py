"""Certificates that change while a process runs: renewed ones, another authority, and who is refused from now on.

Dask reads them when a process starts. Here, each new connection is made with what the files say at that moment. Beside
the authorities' file, `ca.crl` lists the certificates that they take back, one list for each authority; a connection to
whom such a certificate belongs is refused, and one that is open already is ended.
"""

import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client, Scheduler
from distributed.security import Security
from tornado.ioloop import PeriodicCallback

logger = logging.getLogger(__name__)

#: Seconds between two looks at the list of those that are refused.
INTERVAL = 2
SEQUENCE, TAGS_OF_TIMES = 0x30, (0x17, 0x18)


def follow(process: Any) -> None:
    """Have a scheduler, worker, nanny or client of Dask use the files of its certificates as they are.

    Does nothing where Dask's configuration names none.
    """
    role = "scheduler" if isinstance(process, Scheduler) else "client" if isinstance(process, Client) else "worker"
    contexts = [process.connection_args["ssl_context"]]
    contexts += [listener.server_args.get("ssl_options") for listener in getattr(process, "listeners", [])]
    tls = process.security.get_tls_config_for_role(role)
    if _follow(process.security, tls, contexts) and hasattr(process, "periodic_callbacks"):
        watch = Watch(process, refusals_beside(tls["ca_file"]))
        process.periodic_callbacks["certificates"] = PeriodicCallback(watch.look, INTERVAL * 1000)


def connection_arguments(role: str) -> dict[str, Any]:
    """Give what Dask's `connect` wants for connections of a role, which follow the files too."""
    security = Security()
    arguments: dict[str, Any] = security.get_connection_args(role)
    _follow(security, security.get_tls_config_for_role(role), [arguments["ssl_context"]])
    return arguments


def _follow(security: Security, tls: dict[str, Any], contexts: list[ssl.SSLContext | None]) -> bool:
    # Also given as text instead of as names of files.
    if not (tls["ca_file"] and tls["cert"]) or any("\n" in (tls[name] or "") for name in ("ca_file", "cert", "key")):
        return False
    for context in contexts:
        if context is not None:
            Followed(context, security, tls)
    return True


def refusals_beside(authorities: str) -> Path:
    """Name the file that lists who is refused, which need not be there."""
    return Path(authorities).with_name("ca.crl")


class Followed:
    """Settings for connections that are made anew when a file has changed that they come from."""

    def __init__(self, context: ssl.SSLContext, security: Security, tls: dict[str, Any]) -> None:
        self.security, self.tls = security, tls
        # Which, by what OpenSSL calls a server's and a client's protocol.
        server = context.protocol is ssl.PROTOCOL_TLS_SERVER
        self.purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
        self.refusals = refusals_beside(tls["ca_file"])
        self.files = [Path(tls[name]) for name in ("ca_file", "cert", "key") if tls[name]] + [self.refusals]
        self.stamps: list[tuple[int, int] | None] = []
        self.wrap = context.wrap_socket
        # Tornado and Dask ask for an SSLContext, and call but this of it.
        context.wrap_socket = self.wrap_socket  # type: ignore[method-assign]

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Begin a connection."""
        stamps = [stamp(file) for file in self.files]
        if stamps != self.stamps:
            try:
                self.wrap = self.make().wrap_socket
            except (OSError, ValueError) as error:  # some of them are written already, and some are not
                logger.warning("Certificates stay as they were before, for now: %s", error)
            else:
                self.stamps = stamps
        return self.wrap(*args, **options)

    def make(self) -> ssl.SSLContext:
        """Read the files."""
        context = self.security._get_tls_context(self.tls, self.purpose)  # noqa: SLF001 - what Dask makes its own with
        if not self.refusals.exists():
            return context
        lists = self.refusals.read_text().count("BEGIN X509 CRL")
        if lists:
            context.load_verify_locations(self.refusals)
        # OpenSSL refuses all whose authority has no list.
        if lists >= Path(self.tls["ca_file"]).read_text().count("BEGIN CERTIFICATE"):
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


class Watch:
    """What ends connections of those that are refused from now on."""

    def __init__(self, process: Any, refusals: Path) -> None:
        self.process, self.refusals = process, refusals
        self.stamp: tuple[int, int] | None = None

    def look(self) -> None:
        """See whether the list has changed."""
        now = stamp(self.refusals)
        if now == self.stamp:
            return
        self.stamp = now
        refused = serial_numbers(self.refusals.read_text()) if now else set()
        for comm in list(self.process._comms):  # noqa: SLF001 - there is no public list of them
            theirs = (comm.extra_info.get("peercert") or {}).get("serialNumber", "0")
            if int(theirs, 16) in refused:
                logger.warning("Ended the connection of %s: its certificate is refused", comm.peer_address)
                comm.abort()


def stamp(file: Path) -> tuple[int, int] | None:
    """Tell one content of a file from another; None when there is no file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def serial_numbers(lists: str) -> set[int]:
    """Give the numbers of the certificates in certificate revocation lists (RFC 5280, section 5.1), given as PEM."""
    found = set()
    for text in lists.split("-----BEGIN X509 CRL-----")[1:]:
        pem = text.partition("-----END X509 CRL-----")[0]
        encoded = ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}{pem}{ssl.PEM_FOOTER}")
        ((_, signed),) = elements(encoded)
        _, listed = next(elements(signed))
        parts = list(elements(listed))
        # After the time of its making, and maybe of the next one, comes a sequence of entries; extensions are none.
        last = max(number for number, (tag, _) in enumerate(parts) if tag in TAGS_OF_TIMES)
        entries = [content for tag, content in parts[last + 1 :] if tag == SEQUENCE]
        found |= {int.from_bytes(next(elements(entry))[1], "big") for each in entries for _, entry in elements(each)}
    return found


def elements(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Give tag and content of each element in turn, of DER."""
    while encoded:
        tag, length, begin = encoded[0], encoded[1], 2
        if length >= 0x80:  # then the rest says how many bytes the length has
            begin += length & 0x7F
            length = int.from_bytes(encoded[2:begin], "big")
        yield tag, encoded[begin : begin + length]
        encoded = encoded[begin + length :]
