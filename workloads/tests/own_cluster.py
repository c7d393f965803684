"""A cluster in the event loop of a test, whose scheduler and workers check their own state at each transition.

`distributed.utils_test.gen_cluster` makes one, too, but closes the clients that tests share.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import wraps
from typing import Any

import dask
from distributed import Client, Scheduler, Worker

CONFIG = {"distributed.scheduler.validate": True, "distributed.worker.validate": True}


def own_cluster(threads: Sequence[int], config: dict[str, Any] | None = None, **worker: Any) -> Callable[..., Any]:
    """Give a test a client, a scheduler, and a worker for each number of threads.

    Parameters
    ----------
    threads
        Of each worker.
    config
        Dask's configuration meanwhile.
    worker
        Arguments of each worker.
    """

    def wrap(test: Callable[..., Any]) -> Callable[[], None]:
        async def body() -> None:
            async with AsyncExitStack() as stack:
                s = await stack.enter_async_context(
                    Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0")
                )
                assert s.validate
                workers = [
                    await stack.enter_async_context(
                        Worker(s.address, host="127.0.0.1", name=place, nthreads=number, dashboard=False, **worker)
                    )
                    for place, number in enumerate(threads)
                ]
                client = await stack.enter_async_context(Client(s.address, asynchronous=True))
                await asyncio.wait_for(test(client, s, *workers), 120)
                s.validate_state()
                for each in workers:
                    each.validate_state()

        @wraps(test)
        def run() -> None:
            with dask.config.set(CONFIG | (config or {})):
                asyncio.run(body())

        # pytest would look for fixtures of the names of its parameters.
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return wrap
