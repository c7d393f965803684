"""What has to be the same everywhere: versions, image, clocks."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from distributed import Client

from tritoncluster.doctor.finding import Finding, fine, unchecked, wrong
from tritoncluster.nodes import Worker, ask_scheduler, ask_workers
from tritoncluster.versions import MISSING, compare, minor, name_some

#: Beyond this, in seconds, logs and timelines mislead, and a certificate may be not valid yet.
CLOCK_SECONDS = 1.0
#: A clock is asked again until its offset is known this well, in seconds, or so many times.
CLOCK_PRECISION, CLOCK_ROUNDS = 0.05, 3


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
        For all of them.
    """
    end, found, widest = time.monotonic() + seconds, False, 0.0
    base, base_error = _offset(client, None, end) if scheduler else (0.0, 0.0)
    reference = "scheduler" if scheduler else "client"
    measured = [("client", "this computer", -base, base_error)] if scheduler else []
    for worker in workers:
        offset, error = _offset(client, worker.address, end)
        measured.append((worker.name, hostnames.get(worker.address, worker.name), offset - base, error + base_error))
    for where, host, offset, error in measured:
        if math.isnan(offset):
            found = True
            yield unchecked("clocks", where, TimeoutError("the time did not come back in time"))
        elif abs(offset) - error > CLOCK_SECONDS:
            found = True
            detail = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the {reference}'s ({host})"
            yield wrong("clocks", where, detail, f"on {host}: sudo timedatectl set-ntp true")
        else:
            widest = max(widest, abs(offset) + error)
    if not found:
        yield fine("clocks", f"all within {widest:.2f} s of the {reference}'s, {CLOCK_SECONDS:g} s is allowed")


def _offset(client: Client, address: str | None, end: float) -> tuple[float, float]:
    # Asked by a function of the standard library's: it travels as a name.
    best = (math.nan, math.inf)
    for _round in range(CLOCK_ROUNDS):
        left = min(2.0, end - time.monotonic())
        if left <= 0:
            break
        before, start = time.time(), time.monotonic()
        if address is None:
            answer = ask_scheduler(client, time.time, seconds=left)
        else:
            answer = ask_workers(client, [address], time.time, seconds=left)[address]
        half = (time.monotonic() - start) / 2
        if isinstance(answer, float) and half < best[1]:
            best = (answer - before - half, half)
        if best[1] < CLOCK_PRECISION:
            break
    return best
