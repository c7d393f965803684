"""Who is at the other end of a connection, by the certificate that was shown there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tritoncluster.certificates import elements
from tritoncluster.names import person

#: The tag of a certificate's extensions (RFC 5280, section 4.1), that of extended key usages, and that of servers.
EXTENSIONS, USAGES, SERVER = 0xA3, bytes.fromhex("551d25"), bytes.fromhex("2b06010505070301")


@dataclass(frozen=True)
class Peer:
    """One end of a connection.

    Parameters
    ----------
    name
        The certificate's common name, without what all of them begin with; "somebody" without one.
    address
        From where.
    may_serve
        Whether it may be a scheduler or a worker, for which a client's certificate is none. Without TLS, anybody may.
    """

    name: str
    address: str
    may_serve: bool

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"


def peer_of(comm: Any) -> Peer:
    """Tell who is at the other end of one of Dask's connections."""
    shown = comm.extra_info.get("peercert")
    if not shown:
        return Peer("somebody", comm.peer_address, may_serve=True)
    names = dict(pair for each in shown.get("subject", ()) for pair in each)
    usages = set(_usages(comm.stream.socket.getpeercert(binary_form=True)))
    name = person(names.get("commonName", "")) or "somebody"
    return Peer(name, comm.peer_address, may_serve=not usages or SERVER in usages)


def _usages(certificate: bytes) -> Iterator[bytes]:
    ((_, whole),) = elements(certificate)
    _, signed = next(elements(whole))
    for _, listed in (each for each in elements(signed) if each[0] == EXTENSIONS):
        ((_, extensions),) = elements(listed)
        for _, extension in elements(extensions):
            (_, name), *_, (_, value) = elements(extension)
            if name == USAGES:
                ((_, usages),) = elements(value)
                yield from (usage for _, usage in elements(usages))
