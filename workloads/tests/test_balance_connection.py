"""Chunks of work as tasks on a real cluster."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from calls import nothing_left, slow_square
from distributed import Client, Event

from tritoncluster.balance import Sharing, internals, probe
from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.chunks import Answer
from tritoncluster.balance.connection import Connection, End, Work
from tritoncluster.balance.model import Chunk, Item, Worker
from tritoncluster.balance.reconnection import Presence


def large_at(when: float) -> np.ndarray:
    time.sleep(max(0.0, when - time.time()))
    return np.ones(3_000_000)


def connected(client: Client, name: str, sharing: Sharing, ended: dict[Chunk, object]) -> Connection:
    """Connect without a run."""
    background = set()

    def supervise(work: Coroutine[Any, Any, None]) -> None:
        background.add(asyncio.ensure_future(work))

    return Connection(client, name, sharing, None, ended.__setitem__, supervise)


def item(sharing: Sharing, number: int, function: Callable[..., Any], *args: Any) -> Item:
    """Make an item of a call."""
    return Item(number, 1.0, Work([Packer(sharing).pack((function, args, {}))]))


def test_answer_that_nobody_wants_any_more_takes_no_other_with_it(client: Client):
    # The client brings answers that come at once in one go.
    async def wanted(forgotten: int) -> list[object]:
        ended: dict[Chunk, object] = {}
        connection = connected(client, "large", sharing, ended)
        when = time.time() + 0.3
        workers = [Worker(address, address, 1) for address in await connection.workers()]
        chunks = [Chunk(worker, (item(sharing, 0, large_at, when),)) for worker in workers]
        for chunk in chunks:
            connection.send(chunk)
        # The client learns of both at once, when its event loop goes on.
        await asyncio.sleep(0.2)
        time.sleep(max(0.0, when - time.time()) + 0.3)  # noqa: ASYNC251
        while not any(  # noqa: ASYNC110 - the client has no event for it
            future.status == "finished" and key.startswith("large") for key, future in client.futures.items()
        ):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        connection.forget(chunks[forgotten])
        for _ in range(600):
            if chunks[not forgotten] in ended:
                break
            await asyncio.sleep(0.05)
        return [ended[chunks[not forgotten]]]

    with Sharing(client) as sharing:
        for forgotten in [0, 1] * 4:
            (answer,) = client.sync(wanted, forgotten)
            assert isinstance(answer, Answer), answer
    assert nothing_left(client)


def test_shortened_chunk_ends_before_what_is_no_longer_in_it(client: Client):
    async def answered() -> End:
        ended: dict[Chunk, End] = {}
        connection = connected(client, "slow_square", sharing, ended)
        address = next(iter(await connection.workers()))
        chunk = Chunk(Worker(address, address, 1), tuple(item(sharing, each, slow_square, each) for each in range(100)))
        connection.send(chunk)
        await asyncio.sleep(0.3)
        # Once before it gets there, and once when it is beyond.
        for number in (80, 5):
            chunk.shorten(number)
            connection.shorten(chunk)
        while chunk not in ended:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
        return ended[chunk]

    with Sharing(client) as sharing:
        answer = client.sync(answered)
    assert isinstance(answer, Answer)
    assert 5 <= len(answer.seconds) < 60
    assert [each.values for each in answer.results] == [[number**2] for number in range(len(answer.seconds))]
    assert nothing_left(client)


def test_shared_argument_is_first_where_it_is_needed_first(client: Client):
    def where(dask_scheduler: Any) -> list[list[str]]:
        tasks = [task for key, task in dask_scheduler.tasks.items() if str(key).startswith("~argument-")]
        return [[worker.address for worker in task.who_has] for task in tasks]

    async def place(sharing: Sharing, address: str) -> str:
        content = sharing.of(memoryview(data.data).cast("B"))
        kept.append(content)
        return (await sharing.place(content, address)).key

    data, kept = np.arange(1e5), []
    for address in client.scheduler_info(n_workers=-1)["workers"]:
        with Sharing(client) as sharing:
            key = client.sync(place, sharing, address)
            assert client.run_on_scheduler(where) == [[address]]
            assert client.sync(place, sharing, "tcp://127.0.0.1:1") == key
        assert nothing_left(client)


def test_argument_that_does_not_get_to_a_worker_is_told(client: Client):
    async def place(sharing: Sharing, address: str) -> None:
        await sharing.place(sharing.of(memoryview(bytes(100))), address)

    with Sharing(client) as sharing, pytest.raises(KeyError):
        client.sync(place, sharing, "tcp://127.0.0.1:1")


def test_released_task_is_seen_as_such_while_it_runs(client: Client):
    def watch(key: str) -> float:
        is_released = internals.released(key)
        assert not is_released()
        Event("released here").set()
        begin = time.monotonic()
        while not is_released() and time.monotonic() < begin + 20:
            time.sleep(0.01)
        Event("seen").set()
        return 0.0

    future = client.submit(watch, "watched", key="watched")
    assert Event("released here").wait(20)
    future.release()
    assert Event("seen").wait(15)


def hold_the_lock(exponent: int) -> None:
    """Keep the interpreter to itself, in one call of C of some seconds."""
    pow(7, exponent)


def test_a_busy_worker_is_alive_and_a_stopped_one_is_not(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probe, "ANSWER", 0.5)
    (address, pid), *_ = client.run(os.getpid).items()

    def alive() -> bool:
        return client.sync(probe.is_alive, client, address)

    assert alive()
    for work, size in ((time.sleep, 3), (hold_the_lock, 6_000_000)):
        future = client.submit(work, size, workers=[address], pure=False)
        time.sleep(0.5)
        assert alive(), work
        future.result()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not alive()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert alive()


def test_processor_ticks_of_what_is_not_there_are_none():
    assert probe.processor_ticks(None) is None
    assert probe.processor_ticks(2**22 + 1) is None
    before = probe.processor_ticks(os.getpid())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert probe.processor_ticks(os.getpid()) > before


def test_what_a_question_raises_while_it_is_given_up_is_nobodys_error(client: Client):
    reported: list[dict[str, Any]] = []

    async def broken() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("the connection broke") from None

    async def give_up() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(Presence(client).ask(broken), 0.3)
            await asyncio.sleep(0.1)
            gc.collect()
        finally:
            loop.set_exception_handler(None)

    client.sync(give_up)
    assert reported == []
