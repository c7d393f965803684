"""Who else uses the cluster: what a run says of itself, asks the scheduler and tells its workers.

Workers see who waits on them (`turns`). What they do not see are tasks that wait at the scheduler until a worker has
room, and how many clients others are.
"""

import asyncio
import getpass
import logging
import math
import socket
from collections.abc import Collection
from contextlib import suppress
from functools import cache

from distributed import Client

from tritoncluster.balance.internals import others_work
from tritoncluster.balance.turns import KNOWN
from tritoncluster.balance.yielding import know

#: Seconds that the scheduler has for an answer, and workers to take a word.
ANSWER = 10.0

logger = logging.getLogger(__name__)


@cache
def who() -> str:
    """Name the user and the machine of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        user = ""
    return "@".join(filter(None, [user, socket.gethostname()]))


class Crowd:
    """Others on the cluster, as the scheduler knows them. For the client's event loop.

    Parameters
    ----------
    client
        Whose cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told: tuple[int, bool] = (0, False)
        self._tell_again = -math.inf
        self._can_ask, self._looks = True, False

    async def look(self, workers: Collection[str], now: float) -> None:
        """Ask the scheduler, and tell the workers at these addresses what they should know."""
        # One look at a time: an answer may be slow to come.
        if not self._can_ask or self._looks or not workers:
            return
        self._looks = True
        try:
            await self._look(workers, now)
        finally:
            self._looks = False

    async def _look(self, workers: Collection[str], now: float) -> None:
        try:
            found = await asyncio.wait_for(self._client.run_on_scheduler(others_work), ANSWER)
        except ImportError:
            logger.debug("the scheduler has not our code: workers go by what they see")
            self._can_ask = False
            return
        except Exception:  # noqa: BLE001 - it may be busy, gone, or started anew; the run sees to that
            return
        if found != self._told or (found != (0, False) and now >= self._tell_again):
            self._told, self._tell_again = found, now + KNOWN / 3
            # One that doesn't hear of it goes by what it sees.
            with suppress(Exception):
                telling = self._client.run(know, *found, workers=list(workers), on_error="ignore")
                await asyncio.wait_for(telling, ANSWER)
