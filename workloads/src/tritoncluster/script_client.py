"""`Client` and `LocalCluster` as a submitted script has them: there is a cluster, not the script's to shape."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

from tritoncluster.balance.reconnection import link_of

#: What a client itself takes; Dask hands everything else to the cluster that it would start.
OF_CLIENT = frozenset(inspect.signature(Client.__init__).parameters) - {"self", "kwargs"}


@contextmanager
def bound(tell: Callable[[str], None]) -> Iterator[None]:
    """Let clients use the cluster that Dask's configuration names, whatever cluster they are told to start.

    Parameters
    ----------
    tell
        Takes a line for each thing that is asked for and not done.
    """
    told: set[str] = set()
    started: list[LocalCluster] = []
    start_client: Callable[..., None] = Client.__init__
    start_cluster: Callable[..., None] = LocalCluster.__init__

    def tell_once(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    def client(self: Client, address: Any = None, *args: Any, **kwargs: Any) -> None:
        unused = [] if isinstance(address, str) else sorted(set(kwargs) - OF_CLIENT)
        if unused:
            tell_once(f"Client uses the cluster that is there: {', '.join(f'{name}=' for name in unused)} is not used")
        # One of the script's own was started without workers, see below.
        address = None if isinstance(address, LocalCluster) else address
        start_client(self, address, *args, **{name: kwargs[name] for name in kwargs if name not in unused})
        if self.status == "running":
            link_of(self)

    def cluster(self: LocalCluster, *_args: Any, **kwargs: Any) -> None:
        tell_once("LocalCluster starts no workers: its clients use the cluster that is there")
        kept = {name: kwargs[name] for name in ("asynchronous", "loop") if name in kwargs}
        started.append(self)
        start_cluster(self, n_workers=0, processes=True, dashboard_address=":0", silence_logs=False, **kept)

    def shutdown(self: Client, *_args: Any, **_kwargs: Any) -> Any:
        tell_once("Client.shutdown() closes the client alone: the cluster is not the script's")
        return self.close()

    def wait_for_none(self: LocalCluster, *_args: Any, **_kwargs: Any) -> Any:
        return self.sync(asyncio.sleep, 0)

    with (
        _closed_at_the_end(started),
        _replaced(Client, __init__=client, shutdown=shutdown),
        _replaced(LocalCluster, __init__=cluster, wait_for_workers=wait_for_none),
    ):
        yield


@contextmanager
def _replaced(cls: type, **methods: Callable[..., Any]) -> Iterator[None]:
    old = {name: getattr(cls, name) for name in methods}
    try:
        for name, method in methods.items():
            setattr(cls, name, method)
        yield
    finally:
        for name, method in old.items():
            setattr(cls, name, method)


@contextmanager
def _closed_at_the_end(clusters: list[LocalCluster]) -> Iterator[None]:
    # A script seldom closes them.
    try:
        yield
    finally:
        for each in clusters:
            if not each.asynchronous:
                each.close()
