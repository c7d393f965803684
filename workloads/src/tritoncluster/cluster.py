"""The cluster that work runs on: the one that Dask's configuration names, or one of this machine's own cores."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import dask.config
from dask.utils import parse_timedelta
from distributed import Client
from joblib import cpu_count

from tritoncluster.balance.reconnection import link_of
from tritoncluster.certificates import follow
from tritoncluster.embedded import embedded
from tritoncluster.errors import ClusterUnusableError, InputError
from tritoncluster.nodes import reason
from tritoncluster.reach import UnreachableError, knock
from tritoncluster.tls import break_alone, expired_certificate
from tritoncluster.versions import differences, unmet

#: How long to wait for a scheduler's answer, and then for its first worker. A scheduler that shares a small or busy
#: host with its workers can take 10 s for a handshake.
CONNECT_TIMEOUT = "30 s"


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
    variable `DASK_SCHEDULER_ADDRESS` sets too). Without one, worker processes start on this machine, on loopback. They
    do not run the script that starts them, which needs no `if __name__ == "__main__"`.

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
        When the scheduler does not answer, has no workers, or has other versions than this process, and when this
        process has not the versions that the package needs.

    Examples
    --------
    >>> from tritoncluster.cluster import connect
    >>> with connect(workers=1) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6

    Functions of the script itself can be used in tasks, also without a name:

    >>> def square(number):
    ...     return number * number
    >>> with connect(workers=2) as client:
    ...     client.gather(client.map(square, range(4)))
    ...     client.submit(lambda: [square(5)]).result()
    [0, 1, 4, 9]
    [25]
    """
    if must_be_usable and (found := unmet()):
        raise ClusterUnusableError(f"this Python does not have what tritoncluster needs: {'; '.join(found)}")
    address = dask.config.get("scheduler-address", None)
    if not address:
        with embedded(workers or cpu_count(), threads_per_worker or 1) as client:
            yield client
        return
    if workers or threads_per_worker:
        raise InputError(
            f"--workers and --threads-per-worker shape an embedded cluster, but {address} runs already: leave them out"
        )
    with _remote(address, timeout or CONNECT_TIMEOUT, must_be_usable=must_be_usable) as client:
        yield client


@contextmanager
def _remote(address: str, timeout: str, *, must_be_usable: bool) -> Iterator[Client]:
    break_alone()
    _refuse_expired_certificate()
    try:
        # In a thread, because a notebook has an event loop in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, knock(address, parse_timedelta(timeout))).result()
        client = Client(address, timeout=timeout)
        follow(client)
    except ImportError as error:  # how Dask's client puts what the scheduler refuses it for
        raise ClusterUnusableError(f"the scheduler at {address} refuses this program: {error}") from None
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, UnreachableError) and error.remedy:
            raise ClusterUnusableError(f"no scheduler answers at {address} ({error}); {error.remedy}") from None
        why = str(error) if isinstance(error, UnreachableError) else reason(error)
        raise ClusterUnusableError(
            f"no scheduler answers at {address} ({why}); check that it runs, that the address and port are right, that "
            "no firewall is between, and that both sides use TLS, with certificates of one authority, or neither does"
        ) from None
    try:
        if must_be_usable:
            _refuse_unusable(client, address, timeout)
        # From here on it waits for its scheduler.
        link_of(client)
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


def _refuse_unusable(client: Client, address: str, timeout: str) -> None:
    try:
        client.wait_for_workers(1, timeout=parse_timedelta(timeout))
    except TimeoutError:
        raise ClusterUnusableError(
            f"the scheduler at {address} has no workers; start one with 'dask worker {address}'"
        ) from None
    if found := differences(client):
        raise ClusterUnusableError(f"versions differ from the cluster's at {address}: {'; '.join(map(str, found))}")
