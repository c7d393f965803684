"""Questions to the scheduler and the workers, each with a time-out of its own: one that hangs delays no other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from distributed import Client

#: Questions under way at one time; each takes a connection to the scheduler.
CONCURRENCY = 32


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
    """

    address: str
    name: str
    threads: int
    memory_limit: int
    directory: str
    nanny: bool


def workers(client: Client, seconds: float = 5.0) -> list[Worker]:
    """List the workers that the scheduler knows, by name.

    Raises
    ------
    OSError
        When the scheduler does not answer; TimeoutError is one.
    """

    async def identity() -> dict[str, Any]:
        if client.scheduler is None:
            raise ConnectionError("the connection to the scheduler is lost")
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
        )
        for address, info in known.items()
    ]
    return sorted(found, key=lambda worker: (len(worker.name), worker.name))


def ask_workers(
    client: Client, addresses: Iterable[str], question: Callable[..., Any], *arguments: Any, seconds: float
) -> dict[str, Any]:
    """Call `question(*arguments)` on each worker, outside of its tasks.

    A coroutine function leaves the worker's event loop free; `dask_worker` among its parameters is the worker.

    Returns
    -------
    dict
        Address -> what came back, or the exception: of the question, or TimeoutError after `seconds`.
    """
    gate = asyncio.Semaphore(CONCURRENCY)

    async def ask(address: str) -> Any:
        async def run() -> Any:
            return (await client.run(question, *arguments, workers=[address]))[address]

        async with gate:
            return await _answer(run, seconds)

    async def ask_all() -> dict[str, Any]:
        unique = list(addresses)
        answers = await asyncio.gather(*(ask(address) for address in unique))
        return dict(zip(unique, answers, strict=True))

    answers: dict[str, Any] = client.sync(ask_all)
    return answers


def ask_scheduler(client: Client, question: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
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
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(f"{type(error).__name__} {error}".split())


async def _answer(run: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(run(), seconds)
    except TimeoutError:
        return TimeoutError(f"no answer within {seconds:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever a node does wrong is an answer about that node
        return error
