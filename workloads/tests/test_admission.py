"""Who is let at a scheduler, and the lines of its log."""

import logging
import warnings
from typing import Any

import joblib
import pytest
from distributed import Client, Scheduler, Worker
from own_cluster import own_cluster

from tritoncluster import admission, kernel, preload
from tritoncluster.admission import refusal

LINES: list[str] = []


class Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LINES.append(record.getMessage())


@pytest.fixture(autouse=True)
def log():
    handler, level = Log(), admission.logger.level
    admission.logger.addHandler(handler)
    admission.logger.setLevel(logging.INFO)
    LINES.clear()
    yield
    admission.logger.removeHandler(handler)
    admission.logger.setLevel(level)


@own_cluster([1])
async def test_each_that_comes_and_goes_has_a_line(client: Client, s: Scheduler, *_: Worker) -> None:
    admission.dask_setup(s)
    async with (
        Worker(s.address, name="late\nforged: line", dashboard=False),
        Client(s.address, name="ann", asynchronous=True, set_as_default=False) as other,
    ):
        assert await other.submit(sum, [1, 2]) == 3
    while sum("disconnected after" in line for line in LINES) != 2:
        await client.submit(int, pure=False)
    assert any("worker lateforged: line connected" in line for line in LINES)
    assert any(f"client {other.id} connected" in line for line in LINES)
    assert all(line.startswith("somebody at tcp://127.0.0.1") for line in LINES)


@own_cluster([])
async def test_another_python_is_refused_on_one_line(client: Client, s: Scheduler) -> None:
    admission.dask_setup(s)
    installed, admission.python_version = admission.python_version, lambda: "3.99.1"
    try:
        with pytest.raises(ImportError, match=r"the cluster's is 3\.99, and functions do not pass"):
            await Client(s.address, asynchronous=True, set_as_default=False)
    finally:
        admission.python_version = installed
    assert len(LINES) == 1
    assert "refused the client" in LINES[0]


@pytest.mark.parametrize("versions", [None, {}, {"packages": None}, {"packages": {"python": None}}])
def test_who_does_not_say_is_let_in(versions: dict[str, Any] | None):
    assert refusal(versions) == ""


def test_what_is_hidden_from_imports_is_there_again():
    with preload.without("a_module_that_is_nowhere"), pytest.raises(ImportError):
        __import__("a_module_that_is_nowhere")
    with preload.without("json"):
        assert __import__("json").dumps(1) == "1"


def test_a_notebooks_kernel_knows_the_backend_and_sends_no_filter_of_its_own(client: Client):
    of_ipython = type("Own", (Warning,), {"__module__": "IPython.core"})
    warnings.simplefilter("ignore", of_ipython)
    kernel.load_ipython_extension(None)
    assert of_ipython not in [category for _, _, category, *_ in warnings.filters]
    with joblib.parallel_config("balanced", client=client):
        assert joblib.Parallel()(joblib.delayed(abs)(-number) for number in range(3)) == [0, 1, 2]
