"""The cluster that work runs on: the one that Dask's configuration names, or one of this machine's own cores."""

import asyncio
import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import dask.config
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster
from distributed.comm import connect as comm_connect
from distributed.deploy.spec import SpecCluster
from distributed.security import Security
from joblib import cpu_count

from tritoncluster.errors import ClusterUnusableError, InputError
from tritoncluster.nodes import reason
from tritoncluster.tls import break_alone, expired_certificate
from tritoncluster.versions import differences

logger = logging.getLogger(__name__)

#: How long to wait for a scheduler's answer, and then for its first worker. A scheduler that shares a small or busy
#: host with its workers can take 10 s for a handshake.
CONNECT_TIMEOUT = "30 s"
#: Seconds for embedded workers to finish what they are at when the cluster ends.
GRACE = 1.0


@contextmanager
def connect(
    *,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    timeout: str | None = None,
    must_be_usable: bool = True,
) -> Iterator[Client]:
    """Yield a client of the configured cluster, or of an embedded one that ends with the context.

    The cluster is the one whose scheduler Dask's configuration names (`scheduler-address`, which the environment
    variable `DASK_SCHEDULER_ADDRESS` sets too). Without one, worker processes start on this machine, on loopback.

    Parameters
    ----------
    workers, threads_per_worker
        Shape of the embedded cluster; a single-threaded process for each core by default.
    timeout
        For the scheduler to answer; `CONNECT_TIMEOUT` by default.
    must_be_usable
        Refuse a cluster without workers, or with other versions than this process; whoever looks for what is wrong
        with a cluster does without.

    Raises
    ------
    InputError
        When a shape is given for a cluster that runs already.
    ClusterUnusableError
        When the scheduler does not answer, has no workers, or has other versions than this process.
    """
    address = dask.config.get("scheduler-address", None)
    if not address:
        with _embedded(workers or cpu_count(), threads_per_worker or 1) as client:
            yield client
        return
    if workers or threads_per_worker:
        raise InputError(
            f"--workers and --threads-per-worker shape an embedded cluster, but {address} runs already: leave them out"
        )
    with _remote(address, timeout or CONNECT_TIMEOUT, must_be_usable=must_be_usable) as client:
        yield client


@contextmanager
def _embedded(workers: int, threads_per_worker: int) -> Iterator[Client]:
    with (
        _no_process_left(),
        # A killed worker's nanny starts another. Dask gives up on a nanny whose new worker is not there in 15 s, for
        # good; on a small or busy machine starting takes longer.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
        # Dask's memory manager takes a copy of data from a worker as soon as no task there waits for it; ours wait in
        # the client, and the next would fetch it again.
        dask.config.set({"distributed.scheduler.active-memory-manager.start": False}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads_per_worker,
            processes=True,
            host="127.0.0.1",
            # A free port: someone else's dashboard may have the usual one.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            preload=["tritoncluster.preload"],
            # What a worker would log of a failed task reaches the caller as an exception.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        # The scheduler shares this process: results that pass by it would be copied once more.
        Client(cluster, direct_to_workers=True) as client,
    ):
        try:
            yield client
        finally:
            # Closing the cluster would give a task that still runs, after Ctrl-C, four seconds.
            cluster.sync(_stop_workers, cluster)


async def _stop_workers(cluster: LocalCluster) -> None:
    await asyncio.gather(*(nanny.close(timeout=GRACE) for nanny in cluster.workers.values()))


@contextmanager
def _no_process_left() -> Iterator[None]:
    """End the processes that started inside, when they are still there: Ctrl-C can come while a cluster starts."""
    before = set(multiprocessing.active_children())
    try:
        yield
    except KeyboardInterrupt:
        # A half-started cluster can't be closed: its exit handler would raise.
        SpecCluster._instances.clear()  # noqa: SLF001 - there is no public way
        raise
    finally:
        for process in set(multiprocessing.active_children()) - before:
            if process.name.startswith("Dask Worker process"):  # joblib's are not ours to end
                process.kill()


@contextmanager
def _remote(address: str, timeout: str, *, must_be_usable: bool) -> Iterator[Client]:
    break_alone()
    _refuse_expired_certificate()
    try:
        # In a thread, because a notebook has an event loop in this one. Client() has a time-out too, but waits for ever
        # for a server that accepts connections and then says nothing.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _knock(address, parse_timedelta(timeout))).result()
        client = Client(address, timeout=timeout)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterUnusableError(
            f"no scheduler answers at {address} ({reason(error)}); check that it runs, that the address and port are "
            "right, that no firewall is between, and that both sides use TLS, with certificates of one authority, or "
            "neither does"
        ) from None
    try:
        if must_be_usable:
            _refuse_unusable(client, address, timeout)
        yield client
    finally:
        # A client whose scheduler went away may learn of it only while it closes.
        with suppress(OSError):
            client.close()


def _refuse_expired_certificate() -> None:
    try:
        expired = expired_certificate()
    except OSError as error:
        raise ClusterUnusableError(
            f"the client's certificate can't be read ({reason(error)}); check what Dask's configuration names under "
            "distributed.comm.tls"
        ) from None
    if expired:
        raise ClusterUnusableError(f"the client's certificate is {expired}; get a new one from the cluster's owner")


async def _knock(address: str, seconds: float) -> None:
    arguments = Security().get_connection_args("client")
    try:
        comm = await asyncio.wait_for(comm_connect(address, timeout=seconds, **arguments), seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer in {seconds:g} s") from None
    comm.abort()


def _refuse_unusable(client: Client, address: str, timeout: str) -> None:
    try:
        client.wait_for_workers(1, timeout=parse_timedelta(timeout))
    except TimeoutError:
        raise ClusterUnusableError(
            f"the scheduler at {address} has no workers; start one with 'dask worker {address}'"
        ) from None
    if found := differences(client):
        raise ClusterUnusableError(f"versions differ from the cluster's at {address}: {'; '.join(map(str, found))}")
