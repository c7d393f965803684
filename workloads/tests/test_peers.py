"""Who is at the other end of a connection, and what that end may be."""

import asyncio
from pathlib import Path

import pytest
from authority import Authority
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from distributed import Security
from distributed.comm import Comm, connect, listen

from tritoncluster.names import plain
from tritoncluster.peers import Peer, peer_of

SERVER, CLIENT = Usage.SERVER_AUTH, Usage.CLIENT_AUTH


def security(folder: Path) -> Security:
    files = {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key")}
    roles = {f"tls_{role}_{what}": file for role in ("scheduler", "client") for what, file in files.items()}
    return Security(require_encryption=True, tls_ca_file=str(folder.parent / "ca.crt"), **roles)


async def seen(folder: Path, seconds: float = 30) -> Peer:
    """Give whom a server sees when a client connects."""
    found: asyncio.Queue[Peer] = asyncio.Queue()

    async def handle(comm: Comm) -> None:
        found.put_nowait(peer_of(comm))

    arguments = security(folder / "server").get_listen_args("scheduler")
    async with listen("tls://127.0.0.1:0", handle, **arguments) as listener:
        own = security(folder / "client").get_connection_args("client")
        comm = await connect(listener.contact_address, timeout=seconds, **own)
        try:
            return await asyncio.wait_for(found.get(), 30)
        finally:
            await comm.close()


@pytest.mark.parametrize(
    ("usages", "may_serve"), [((), True), ((CLIENT,), False), ((SERVER, CLIENT), True), ((CLIENT, SERVER), True)]
)
def test_a_client_s_certificate_is_for_clients_alone(tmp_path: Path, usages: tuple, *, may_serve: bool):
    authority = Authority()
    (tmp_path / "ca.crt").write_text(authority.certificate)
    authority.give(tmp_path / "server", "tritoncluster desktop", SERVER, CLIENT)
    authority.give(tmp_path / "client", "tritoncluster anna", *usages)
    peer = asyncio.run(seen(tmp_path))
    assert (peer.name, peer.may_serve) == ("anna", may_serve)
    assert str(peer).startswith("anna at tls://127.0.0.1:")
    # Nor does anybody take it for a scheduler's.
    authority.give(tmp_path / "server", "tritoncluster desktop", *usages)
    authority.give(tmp_path / "client", "tritoncluster anna", CLIENT)
    if may_serve:
        asyncio.run(seen(tmp_path))
    else:
        with pytest.raises(OSError):  # noqa: PT011 - Dask says it in several ways
            asyncio.run(seen(tmp_path, seconds=2))


def test_without_tls_nobody_is_known():
    async def ask() -> Peer:
        found: asyncio.Queue[Peer] = asyncio.Queue()

        async def handle(comm: Comm) -> None:
            found.put_nowait(peer_of(comm))

        async with listen("tcp://127.0.0.1:0", handle) as listener:
            comm = await connect(listener.contact_address, timeout=10)
            try:
                return await asyncio.wait_for(found.get(), 30)
            finally:
                await comm.close()

    peer = asyncio.run(ask())
    assert (peer.name, peer.may_serve) == ("somebody", True)


def test_a_line_of_the_log_can_not_be_forged():
    assert plain("Client-1\nanna at tls://1: worker pi connected\x1b[2K") == (
        "Client-1anna at tls://1: worker pi connected[2K"
    )
    assert len(plain("x" * 10**6)) == 100
