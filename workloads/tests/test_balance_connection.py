"""Pieces of work as tasks on a real cluster."""

import asyncio
import time

import numpy as np
from calls import nothing_left, slow_square
from distributed import Client

from tritoncluster.balance import Sharing
from tritoncluster.balance.connection import Connection, End
from tritoncluster.balance.crew import Piece, Worker
from tritoncluster.balance.pieces import Answer, stop_key


def large_at(when: float) -> np.ndarray:
    time.sleep(max(0.0, when - time.time()))
    return np.ones(3_000_000)


def test_answer_that_nobody_wants_any_more_takes_no_other_with_it(client: Client):
    # The client brings answers that come at once in one go.
    async def wanted(forgotten: int) -> list[object]:
        ended: dict[Piece, object] = {}
        connection = Connection(client, "large", sharing, None, ended.__setitem__)
        when = time.time() + 0.3
        workers = [Worker(address, address, 1) for address in await connection.workers()]
        pieces = [Piece(worker, (0,), 1.0) for worker in workers]
        for piece in pieces:
            connection.send(piece, [[(large_at, (when,), {})]])
        # The client learns of both at once, when its event loop goes on.
        await asyncio.sleep(0.2)
        time.sleep(max(0.0, when - time.time()) + 0.3)  # noqa: ASYNC251
        while not any(  # noqa: ASYNC110 - the client has no event for it
            future.status == "finished" and key.startswith("large") for key, future in client.futures.items()
        ):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        connection.forget(pieces[forgotten])
        for _ in range(600):
            if pieces[not forgotten] in ended:
                break
            await asyncio.sleep(0.05)
        return [ended[pieces[not forgotten]]]

    with Sharing(client) as sharing:
        for forgotten in [0, 1] * 4:
            (answer,) = client.sync(wanted, forgotten)
            assert isinstance(answer, Answer), answer
    assert nothing_left(client)


def test_shortened_piece_ends_before_what_is_no_longer_in_it(client: Client):
    async def answered() -> End:
        ended: dict[Piece, End] = {}
        connection = Connection(client, "slow_square", sharing, None, ended.__setitem__)
        address = next(iter(await connection.workers()))
        piece = Piece(Worker(address, address, 1), tuple(range(100)), 100.0)
        connection.send(piece, [[(slow_square, (item,), {})] for item in piece.items])
        await asyncio.sleep(0.3)
        # Once before it gets there, and once when it is beyond.
        for number in (80, 5):
            piece.items = piece.items[:number]
            connection.shorten(piece)
        while piece not in ended:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
        return ended[piece]

    with Sharing(client) as sharing:
        answer = client.sync(answered)
    assert isinstance(answer, Answer)
    assert 5 <= len(answer.seconds) < 60
    assert stop_key("slow_square-1-2", 80).rsplit("-", 2)[0] == "stop"  # as reports name it
    assert answer.results == [[item**2] for item in range(len(answer.seconds))]
    assert nothing_left(client)


def test_shared_argument_is_first_where_it_is_needed_first(client: Client):
    data = np.arange(1e6)

    def where(dask_scheduler) -> list[str]:
        tasks = [task for key, task in dask_scheduler.tasks.items() if str(key).startswith("~argument-")]
        return [worker.address for task in tasks for worker in task.who_has]

    for address in client.scheduler_info(n_workers=-1)["workers"]:
        with Sharing(client) as sharing:
            client.gather(sharing.share(data, address))
            assert client.run_on_scheduler(where) == [address]
            assert sharing.share(data, "tcp://127.0.0.1:1").key == sharing.share(data, address).key
    assert nothing_left(client)
