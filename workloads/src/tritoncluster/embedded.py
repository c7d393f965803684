"""A cluster of this machine's own cores, which ends with the program.

It lives in the process of the caller, whose own clusters, Dask configuration and script it leaves alone.
"""

import asyncio
import logging
import multiprocessing
import multiprocessing.spawn
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster, Nanny
from distributed.deploy.spec import SpecCluster

from tritoncluster.placement import dask_setup

#: Seconds for workers to finish what they are at when the cluster ends.
GRACE = 1.0
#: What Dask's nannies call the processes that they start.
WORKER_PROCESS = "Dask Worker process (from Nanny)"


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


def keep_main_out_of_workers() -> None:
    """Let workers that this process starts do without its `__main__`; once is enough.

    A process that Python spawns runs the program's script first, as `__mp_main__`, in order to find its functions. For
    a worker that means a second run of whatever the script does, each time that a nanny starts one, and a script
    without `if __name__ == "__main__"` starts a cluster within the cluster. Dask's workers have no use for it: what is
    defined in `__main__` comes to them by value.
    """
    prepare = multiprocessing.spawn.get_preparation_data
    if hasattr(prepare, "__wrapped__"):
        return

    def without_main(name: str) -> dict[str, Any]:
        data = prepare(name)
        if name == WORKER_PROCESS:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    without_main.__wrapped__ = prepare  # type: ignore[attr-defined]
    multiprocessing.spawn.get_preparation_data = without_main
