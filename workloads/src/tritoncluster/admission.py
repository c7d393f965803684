"""Who may use a scheduler, as what, and a line of its log for each of them.

Clients are let in whose Python is the cluster's: functions travel as byte-code, which another minor version of Python
does not understand: at best a task fails, mostly the interpreter crashes that runs it, and with it a worker and the
tasks of others. Dask only warns. A worker or nanny needs a certificate that is for servers too, which a client's is
not. The process of the scheduler wants this as a preload module.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from platform import python_version
from typing import Any

from distributed import Scheduler
from distributed.comm import Comm

from tritoncluster.names import plain
from tritoncluster.peers import Peer, peer_of
from tritoncluster.versions import minor

logger = logging.getLogger(__name__)


def dask_setup(scheduler: Scheduler) -> None:
    """Look at each client's versions and at each worker's certificate before it is let in."""
    handlers = scheduler.handlers
    handlers["register-client"] = _checked(handlers["register-client"])
    for kind, what in {"register-worker": "worker", "register_nanny": "nanny"}.items():
        handlers[kind] = _for_servers(what, handlers[kind])


def refusal(versions: dict[str, Any] | None) -> str:
    """Say on one line why a client is refused, "" when it is not.

    Parameters
    ----------
    versions
        What a client of Dask says of itself: what `distributed.versions.get_versions` gives.
    """
    theirs = ((versions or {}).get("packages") or {}).get("python") or ""
    # Dask gives it as "3.11.7.final.0"; a client that does not say is let in, as Dask would.
    if not theirs or minor(theirs) == minor(python_version()):
        return ""
    return (
        f"its Python is {minor(theirs)}, the cluster's is {minor(python_version())}, and functions do not pass between "
        f"the two; run it with Python {minor(python_version())}"
    )


def _checked(add_client: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def register(comm: Comm, client: str, versions: dict[str, Any]) -> None:
        peer = peer_of(comm)
        if why := refusal(versions):
            logger.warning("%s: refused the client %s: %s", peer, plain(client), why)
            # A client of Dask raises ImportError with this text.
            await comm.write([{"op": "stream-start", "error": why}])
            await comm.close()
            return
        with _noted(peer, f"client {plain(client)}"):
            await add_client(comm, client=client, versions=versions)

    return register


def _for_servers(what: str, add: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def register(comm: Comm, **given: Any) -> Any:
        peer = peer_of(comm)
        called = f"{what} {plain(str(given.get('name') or given.get('address')))}"
        if not peer.may_serve:
            logger.warning("%s: refused the %s: its certificate is a client's", peer, called)
            why = "its certificate is a client's; a worker needs one of a host's"
            await comm.write({"status": "error", "message": why, "time": time.time()})
            await comm.close()
            return None
        # A nanny says that it begins, and later that its worker has begun.
        with _noted(peer, called) if what == "worker" else nullcontext():
            return await add(comm, **given)

    return register


@contextmanager
def _noted(peer: Peer, what: str) -> Iterator[None]:
    begin = time.monotonic()
    logger.info("%s: %s connected", peer, what)
    try:
        yield
    finally:
        logger.info("%s: %s disconnected after %.0f s", peer, what, time.monotonic() - begin)
