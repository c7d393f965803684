"""A cluster of this machine's own cores, which ends with the program.

It lives in the process of the caller, whose own clusters, Dask configuration and script it leaves alone.
"""

import asyncio
import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster, Nanny
from distributed.deploy.spec import SpecCluster

from tritoncluster.placement import dask_setup
from tritoncluster.spawning import fork_server, keep_main_out_of_workers

#: Seconds for workers to finish what they are at when the cluster ends.
GRACE = 1.0


@contextmanager
def embedded(workers: int, threads_per_worker: int) -> Iterator[Client]:
    """Yield a client of worker processes on this machine, which listen on loopback alone."""
    keep_main_out_of_workers()
    nannies: list[Nanny] = []

    class Known(Nanny):
        """A nanny that can be found also when the cluster that starts it never was finished."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            nannies.append(self)

    before = list(SpecCluster._instances)  # noqa: SLF001 - there is no public list
    try:
        with (
            fork_server.used(),
            _Embedded(  # type: ignore[no-untyped-call]
                n_workers=workers,
                threads_per_worker=threads_per_worker,
                processes=True,
                worker_class=Known,
                host="127.0.0.1",
                # A free port: someone else's dashboard may have the usual one.
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                preload=["tritoncluster.preload"],
                # A fork has the environment that its server was started with.
                env=dict(os.environ),
                # What a worker would log of a failed task reaches the caller as an exception.
                silence_logs=logging.CRITICAL,
            ) as cluster,
            # The scheduler shares this process: results that pass by it would be copied once more.
            Client(cluster, direct_to_workers=True) as client,
        ):
            # Dask's memory manager takes a copy of data from a worker as soon as no task there waits for it; ours wait
            # in the client, and the next would fetch it again.
            client.amm.stop()
            cluster.sync(_know_speeds, cluster)
            try:
                yield client
            finally:
                # Closing the cluster would give a task that still runs, after Ctrl-C, four seconds.
                cluster.sync(_stop_workers, cluster)
    except KeyboardInterrupt:
        # It can come while the cluster starts. A half-started one can't be closed: Dask's exit handler would raise. Nor
        # can it be told from others by `==`, which asks for the name that it may not have yet.
        for unfinished in SpecCluster._instances:  # noqa: SLF001
            if isinstance(unfinished, _Embedded) and all(unfinished is not each for each in before):
                unfinished.shutdown_on_close = False
        raise
    finally:
        _end_processes(nannies)


class _Embedded(LocalCluster):
    def _update_worker_status(self, op: str, msg: Any) -> None:
        # A killed worker's nanny starts another. SpecCluster gives up on a nanny whose new worker is not there in 15 s,
        # for good; on a small or busy machine starting takes longer.
        super(SpecCluster, self)._update_worker_status(op, msg)  # type: ignore[no-untyped-call]


async def _know_speeds(cluster: LocalCluster) -> None:
    if cluster.scheduler:
        dask_setup(cluster.scheduler)


async def _stop_workers(cluster: LocalCluster) -> None:
    await asyncio.gather(*(nanny.close(timeout=GRACE) for nanny in cluster.workers.values()))


def _end_processes(nannies: list[Nanny]) -> None:
    left = {nanny.pid for nanny in nannies}
    for process in multiprocessing.active_children():
        if process.pid in left:
            process.kill()
