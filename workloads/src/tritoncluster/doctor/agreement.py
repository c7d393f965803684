"""What has to be the same everywhere: versions, image, clocks."""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from distributed import Client

from tritoncluster.doctor.finding import Finding, fine, unchecked, wrong
from tritoncluster.nodes import Worker, gather
from tritoncluster.versions import MISSING, compare, minor, name_some

#: Beyond this, in seconds, logs and timelines mislead, and a certificate may be not valid yet.
CLOCK_SECONDS = 1.0
#: A clock is asked again until its offset is known this well, in seconds, or so many times.
CLOCK_PRECISION, CLOCK_ROUNDS = 0.05, 3
#: Stands beside the addresses of workers.
SCHEDULER = "scheduler"


def versions(here: Mapping[str, str], there: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Compare the versions of the nodes, name -> package -> version, with the client's."""
    differences = compare(here, there)
    for difference in differences:
        remedy = "run the same image, or the same locked environment, on client, scheduler and workers"
        if difference.package == "python":
            remedy += "; the other checks leave these nodes out until then"
        detail = f"{difference.package} is {difference.there}, {difference.here} on the client"
        yield wrong("versions", name_some(difference.nodes), detail, remedy)
    if not differences:
        main = ", ".join(f"{name} {here.get(name, MISSING)}" for name in ("dask", "scikit-learn", "numpy"))
        yield fine("versions", f"Python {minor(here['python'])}, {main} and what else matters are the same everywhere")


def images(client: str, nodes: Mapping[str, str]) -> Iterator[Finding]:
    """Compare the image that each node says it runs, "" where it says none; a client may well run none."""
    said = {node: image for node, image in nodes.items() if image}
    if not said:
        yield fine("image", "none: these processes don't run in the project's containers")
        return
    expected = nodes.get("scheduler") or Counter(said.values()).most_common(1)[0][0]
    others = {node: image for node, image in nodes.items() if image != expected}
    if client and client != expected:
        others["client"] = client
    for node, image in others.items():
        detail = f"runs {image or 'outside of an image'}, the cluster runs {expected}"
        yield wrong("image", node, detail, f"deploy again, so that it runs {expected} too")
    if not others:
        yield fine("image", expected)


def clocks(
    client: Client, workers: Sequence[Worker], hostnames: Mapping[str, str], *, scheduler: bool, seconds: float
) -> Iterator[Finding]:
    """Compare the clocks of the workers and the client with the scheduler's.

    An offset counts from the middle between question and answer, so it is known to half of the time between.

    Parameters
    ----------
    client, workers
        The cluster, and those of its workers to ask.
    hostnames
        Worker's address -> its host's name.
    scheduler
        False to compare with the client's clock, for a scheduler that is not to be asked.
    seconds
        For each of them; they are asked at the same time.
    """
    answers = _offsets(client, workers, scheduler=scheduler, seconds=seconds)
    base = answers.pop(SCHEDULER, (0.0, 0.0))
    found, widest = False, 0.0
    reference = "scheduler" if scheduler else "client"
    if isinstance(base, Exception):
        yield unchecked("clocks", "scheduler", base)
        return
    told = [(worker.name, hostnames.get(worker.address, worker.name), answers[worker.address]) for worker in workers]
    if scheduler:
        told.insert(0, ("client", "this computer", (0.0, 0.0)))
    for where, host, answer in told:
        if isinstance(answer, Exception):
            found = True
            yield unchecked("clocks", where, answer)
            continue
        offset, error = answer[0] - base[0], answer[1] + base[1]
        if abs(offset) - error > CLOCK_SECONDS:
            found = True
            detail = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the {reference}'s ({host})"
            yield wrong("clocks", where, detail, f"on {host}: sudo timedatectl set-ntp true")
        else:
            widest = max(widest, abs(offset) + error)
    if told and not found:
        yield fine("clocks", f"all within {widest:.2f} s of the {reference}'s, {CLOCK_SECONDS:g} s is allowed")


def _offsets(client: Client, workers: Sequence[Worker], *, scheduler: bool, seconds: float) -> dict[str, Any]:
    """Give what `_offset` gives, or the exception, by the worker's address, for the scheduler by `SCHEDULER`."""

    # Asked by a function of the standard library's: it travels as a name.
    async def of_scheduler() -> float:
        return float(await client.run_on_scheduler(time.time))

    async def of_worker(address: str) -> float:
        return float((await client.run(time.time, workers=[address]))[address])

    questions: dict[str, Callable[[], Awaitable[float]]]
    questions = {worker.address: partial(of_worker, worker.address) for worker in workers}
    if scheduler:
        questions[SCHEDULER] = of_scheduler
    return gather(client, {key: partial(_offset, ask) for key, ask in questions.items()}, seconds=seconds)


async def _offset(ask: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    """Give by how many seconds a clock is ahead of this process's, and how well that is known."""
    best = (math.nan, math.inf)
    end = time.monotonic() + CLOCK_SECONDS
    for _round in range(CLOCK_ROUNDS):
        before, start = time.time(), time.monotonic()
        answer = await ask()
        half = (time.monotonic() - start) / 2
        if half < best[1]:
            best = (answer - before - half, half)
        if best[1] < CLOCK_PRECISION or time.monotonic() > end:
            break
    return best
