"""Every worker's metrics where the scheduler's are, by the worker's name.

Dask serves them as plain HTTP on the worker's own host, without a password. Here a worker gives them over the cluster's
own connections, with TLS, and the scheduler serves them at `/workers/<name>/metrics`: to GET alone, as text, and for
names of workers alone. The processes of scheduler and workers want this as a preload module.
"""

import asyncio
from typing import Any

from distributed import Scheduler, Worker
from distributed.http.utils import RequestHandler
from tornado.httpclient import AsyncHTTPClient

#: How Prometheus names its text.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds for a worker to answer.
PATIENCE = 5.0
HTTP_NOT_FOUND, HTTP_NO_ANSWER = 404, 504


class WorkerMetrics(RequestHandler):
    """Asks the worker of a name for its metrics."""

    async def get(self, name: str) -> None:
        """Answer with the worker's text; 404 for what is no worker, 504 for one that does not answer."""
        self.set_header("Content-Type", TEXT)
        address = next((each.address for each in self.server.workers.values() if str(each.name) == name), None)
        if address is None:
            self._refuse(HTTP_NOT_FOUND, "no worker of this cluster has that name")
            return
        try:
            self.write(await asyncio.wait_for(self.server.rpc(address).metrics(), PATIENCE))
        except (OSError, TimeoutError):
            self._refuse(HTTP_NO_ANSWER, f"the worker does not answer in {PATIENCE:.0f} s")

    def _refuse(self, status: int, why: str) -> None:
        self.set_status(status)
        self.write(f"# {why}\n")


def dask_setup(server: Scheduler | Worker) -> None:
    """Serve them all on a scheduler, give its own on a worker."""
    if isinstance(server, Scheduler):
        route = (r"/workers/([^/]+)/metrics", WorkerMetrics, {"dask_server": server})
        server.http_application.add_handlers(".*", [route])
        return
    listening: Any = server.http_server

    async def metrics() -> bytes:
        # What it says itself, wherever in Dask that comes from.
        answer = await AsyncHTTPClient().fetch(f"http://{_own(listening.address)}:{listening.port}/metrics")
        return answer.body

    server.handlers["metrics"] = metrics


def _own(listening: str) -> str:
    return "127.0.0.1" if listening in ("", "0.0.0.0", "::") else listening  # noqa: S104 - it is asked, not bound
