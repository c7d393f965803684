"""Questions to the scheduler and the workers, each with a time-out of its own: one that hangs delays no other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client

#: For the scheduler to answer, in seconds: one that shares a small or busy host with its workers is slow.
SCHEDULER_SECONDS = 10.0
#: For a worker to answer a small question, in seconds.
WORKER_SECONDS = 5.0
#: Questions that are asked at one time; each takes a connection to the scheduler. One that is not answered within so
#: many seconds is waited for beside the others.
CONCURRENCY, SLOT_SECONDS = 32, 0.5


@dataclass(frozen=True)
class Worker:
    """What the scheduler knows of a worker.

    Parameters
    ----------
    address
        Where it listens, as it told the scheduler.
    name
        For people: "worker 3" where Dask's name is a bare number.
    threads
        How many tasks run on it at a time.
    memory_limit
        In bytes, 0 for none.
    directory
        Where it spills to.
    nanny
        Whether a nanny watches it, which ends it when it takes more memory than its limit.
    dask_name
        As Dask has it: "3" where the name for people is "worker 3".
    """

    address: str
    name: str
    threads: int
    memory_limit: int
    directory: str
    nanny: bool
    dask_name: str = ""


def workers(client: Client, seconds: float = SCHEDULER_SECONDS) -> list[Worker]:
    """List the workers that the scheduler knows, by name.

    Raises
    ------
    OSError
        When the scheduler does not answer; TimeoutError is one.
    """

    async def identity() -> dict[str, Any]:
        if client.scheduler is None:
            raise ConnectionError("the connection to the scheduler is lost")
        # As Dask documents it for asynchronous clients; Client.scheduler_info has no time-out, and gives what it knew
        # before where the scheduler is gone.
        answer: dict[str, Any] = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), seconds)
        return answer

    known = client.sync(identity)["workers"]
    found = [
        Worker(
            address,
            f"worker {info['name']}" if isinstance(info["name"], int) else str(info["name"]),
            info["nthreads"],
            info["memory_limit"] or 0,
            info["local_directory"],
            bool(info["nanny"]),
            str(info["name"]),
        )
        for address, info in known.items()
    ]
    return sorted(found, key=lambda worker: (len(worker.name), worker.name))


def ask_workers(
    client: Client,
    addresses: Iterable[str],
    question: Callable[..., Any],
    *arguments: Any,
    seconds: float = WORKER_SECONDS,
    nanny: bool = False,
) -> dict[str, Any]:
    """Call `question(*arguments)` on each worker, outside of its tasks.

    A coroutine function leaves the worker's event loop free; `dask_worker` among its parameters is the worker.

    Parameters
    ----------
    client, addresses
        The cluster, and those of its workers to ask; some may be gone.
    question, arguments
        What to call.
    seconds
        For each to answer. Those that hang are waited for beside the others: all together take little longer.
    nanny
        Ask the workers' nannies instead; `dask_worker` is the nanny then.

    Returns
    -------
    dict
        Address -> what came back, or the exception: of the question, or TimeoutError after `seconds`.
    """

    def ask(address: str) -> Callable[[], Awaitable[Any]]:
        async def run() -> Any:
            return (await client.run(question, *arguments, workers=[address], nanny=nanny))[address]

        return run

    return gather(client, {address: ask(address) for address in addresses}, seconds=seconds)


def gather(client: Client, questions: Mapping[str, Callable[[], Awaitable[Any]]], *, seconds: float) -> dict[str, Any]:
    """Call coroutine functions in the client's event loop, many at a time; give key -> what came, or the exception."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def ask(run: Callable[[], Awaitable[Any]]) -> Any:
        async with gate:
            asking = asyncio.ensure_future(_answer(run, seconds))
            try:
                await asyncio.wait([asking], timeout=SLOT_SECONDS)
            except asyncio.CancelledError:
                asking.cancel()
                raise
        return await asking

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*map(ask, questions.values()))

    return dict(zip(questions, client.sync(ask_all), strict=True))


def ask_scheduler(
    client: Client, question: Callable[..., Any], *arguments: Any, seconds: float = SCHEDULER_SECONDS
) -> Any:
    """Call `question(*arguments)` in the scheduler's process; give what came back, or the exception."""

    async def run() -> Any:
        return await client.run_on_scheduler(question, *arguments)

    async def ask() -> Any:
        return await _answer(run, seconds)

    return client.sync(ask)


def scheduler_address(client: "Client") -> str:
    """Give the address of the client's scheduler, also of one that is gone; "" for a client that has none."""
    return str(client.scheduler.address) if client.scheduler else ""


def reason(error: BaseException) -> str:
    """Say on one line what is at the bottom of an error; Dask's chain the reasons of each attempt."""
    while following := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = following
    return " ".join(f"{type(error).__name__} {error}".split())


async def _answer(run: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(run(), seconds)
    except TimeoutError:
        return TimeoutError(f"no answer within {seconds:.2g} s")
    except Exception as error:  # noqa: BLE001 - whatever a node does wrong is an answer about that node
        return error
