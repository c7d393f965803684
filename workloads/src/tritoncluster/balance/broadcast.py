"""Large arguments on their way to workers, once to each."""

import asyncio
import itertools
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from distributed import Client, Future, wait

from tritoncluster.balance.contents import Content, Contents

#: What the names of shared arguments begin with. Dask's page of task groups fails while a group's name sorts before the
#: name of one that needs it, and those are named after functions.
ARGUMENT = "~argument"
#: Bytes that the scheduler passes on at a time: most clients reach workers only through it, and it may have little
#: memory.
PART_BYTES = 16 << 20
#: Seconds after which a worker that takes in a content is not waited for any more, and for so many bytes one more.
PATIENCE, BYTES_A_SECOND = 5.0, 2e6


class Sharing(Contents):
    """Large arguments of the calls on a client's cluster; a context manager that lets go of them at the end.

    What several calls are sent travels once to each worker, and may stay there for calls of later runs. What an
    argument is, is its content at the time when the call is submitted: it may be changed and used again.

    Each content goes to one worker, where others get it. When that one is lost with the only copy, it is sent again.

    Parameters
    ----------
    client
        Whose cluster.
    """

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._name = uuid4().hex[:8]
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # In the client's event loop.

    def there(self, content: Content) -> "Future[Any] | None":
        """Give the reference to a content that some worker has; None when none has it."""
        placement: _Placement | None
        for address, placement in list(content.placements.items()):
            if placement.lost:
                del content.placements[address]
            elif placement.future:
                return placement.future
        return None

    async def place(self, content: Content, address: str) -> "Future[Any]":
        """Give the reference to a content, which goes to the worker at `address` unless one has it or soon will.

        Workers get their first chunks in the order of their speed: others wait for the argument while the first takes
        it in, but not for ever.

        Raises
        ------
        Exception
            When it doesn't reach the worker.
        """
        begin = asyncio.get_running_loop().time()
        patience = PATIENCE + len(content) / BYTES_A_SECOND
        while (future := self.there(content)) is None:
            left = begin + patience - asyncio.get_running_loop().time()
            others = [each.task for each in content.placements.values() if not each.task.done()]
            if address not in content.placements and (not others or left <= 0):
                task = asyncio.ensure_future(self._send(content, address))
                content.placements[address] = _Placement(task, self._client)
                others, left = [task], patience
            elif not others or left <= 0:
                raise TimeoutError(f"no worker took in an argument of {len(content)} bytes")
            await asyncio.wait(others, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            own = content.placements.get(address)
            if own and own.task.done() and own.lost:
                del content.placements[address]
                await own.task
        return future

    async def _send(self, content: Content, address: str) -> "Future[Any]":
        name = f"{ARGUMENT}-{self._name}-{next(self._numbers)}"
        if len(content) <= PART_BYTES:
            return await self._scatter(name, content.data, address)
        parts = []
        for number, start in enumerate(range(0, len(content), PART_BYTES)):
            data = content.data[start : start + PART_BYTES]
            parts.append(await self._scatter(f"{name}.{number}", data, address))
        whole = self._client.submit(_join, *parts, key=name, workers=[address], priority=1000)
        await wait([whole])
        return whole

    async def _scatter(self, key: str, data: bytes, address: str) -> "Future[Any]":
        futures = await self._client.scatter({key: data}, workers=[address], direct=False, hash=False)
        return futures[key]


class _Placement:
    """A content on its way to a worker, or there."""

    def __init__(self, task: "asyncio.Task[Future[Any]]", client: Client) -> None:
        self.task = task
        self._client, self._connection = client, client.scheduler_comm
        # Nobody may be waiting any more when it fails, as where the client is closed: asyncio would complain of that.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def future(self) -> "Future[Any] | None":
        """The reference to it, when it is there."""
        return self.task.result() if self.task.done() and not self.lost else None

    @property
    def lost(self) -> bool:
        """Whether it did not get there, or is no longer there, as when the scheduler was lost."""
        if self._connection is not self._client.scheduler_comm:
            return True
        if not self.task.done():
            return False
        return self.task.cancelled() or self.task.exception() is not None or self.task.result().status != "finished"


def _join(*parts: bytes) -> bytes:
    return b"".join(parts)
