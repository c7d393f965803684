"""Metrics of all workers, asked of the scheduler."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from distributed import Scheduler, Worker
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from tritoncluster import metrics

Ask = Callable[..., Awaitable[HTTPResponse]]
PRELOAD = {"preload": ["tritoncluster.metrics"]}


def with_cluster(check: Callable[[Ask, Worker], Awaitable[None]]) -> None:
    """Call `check` with how to ask the scheduler, and its worker, which is called seven."""

    async def run() -> None:
        async with (
            Scheduler(host="127.0.0.1", dashboard_address="127.0.0.1:0", dashboard=False, **PRELOAD) as scheduler,
            Worker(scheduler.address, name=7, dashboard_address="127.0.0.1:0", **PRELOAD) as worker,
        ):

            async def ask(path: str, **options: object) -> HTTPResponse:
                url = f"http://127.0.0.1:{scheduler.http_server.port}{path}"
                return await AsyncHTTPClient().fetch(url, raise_error=False, **options)

            await check(ask, worker)

    asyncio.run(run())


def test_a_worker_s_metrics_are_text():
    async def check(ask: Ask, _worker: Worker) -> None:
        answer = await ask("/workers/7/metrics", headers={"Cookie": "secret=1"})
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "dask_worker_tasks" in answer.body.decode()

    with_cluster(check)


@pytest.mark.parametrize("name", ["8", "127.0.0.1", "localhost", "127.0.0.1%3A8788", "..%2F7", "%3Cscript%3E"])
def test_what_is_no_worker_s_name_is_asked_nothing(name: str):
    async def check(ask: Ask, _worker: Worker) -> None:
        answer = await ask(f"/workers/{name}/metrics")
        assert answer.code == 404
        assert answer.body == b"# no worker of this cluster has that name\n"
        assert answer.headers["Content-Type"].startswith("text/plain")

    with_cluster(check)


def test_only_get():
    async def check(ask: Ask, _worker: Worker) -> None:
        answers = [
            await ask("/workers/7/metrics", method=method, allow_nonstandard_methods=True)
            for method in ("POST", "PUT", "DELETE")
        ]
        assert [answer.code for answer in answers] == [405, 405, 405]

    with_cluster(check)


def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "PATIENCE", 0.2)

    async def check(ask: Ask, worker: Worker) -> None:
        async def frozen() -> bytes:
            await asyncio.sleep(60)
            return b""

        worker.handlers["metrics"] = frozen
        answer = await ask("/workers/7/metrics")
        assert answer.code == 504
        assert b"does not answer" in answer.body

    with_cluster(check)
