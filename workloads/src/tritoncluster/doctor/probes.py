"""What the doctor runs on workers, outside of their tasks.

These functions, and those that they call, travel by value: the doctor also examines clusters where this package is
missing or of another version. They give nothing but built-in types, whose classes are the same on both sides.
"""

import asyncio
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cloudpickle

from tritoncluster.doctor import system
from tritoncluster.doctor.system import (
    board,
    control_groups,
    cpu_quotas,
    file_system,
    folders,
    in_container,
    memory_limits,
    text,
    throttled,
)

if TYPE_CHECKING:
    from distributed import Nanny, Worker

#: The environment variable that says which image a process runs in.
IMAGE = "TRITONCLUSTER_IMAGE"
#: More than a network's packet, and not to be compressed: what a tunnel with too small packets loses must not pass.
PAYLOAD_BYTES = 65536
#: Connections that a worker opens at a time.
CONCURRENCY = 32
#: What is said of a port that takes connections, and nothing more.
SILENT = "it takes connections, but does not answer"
#: Seconds over which a process is watched: long enough for its processor time, counted in hundredths, to move.
WATCHED_SECONDS = 0.5


async def machine(dask_worker: "Worker") -> dict[str, Any]:
    """Describe the machine and the process; the fields are those of `tritoncluster.doctor.hosts.Machine`."""
    memory = dask_worker.memory_manager
    spills = bool(getattr(memory, "memory_spill_fraction", False) or getattr(memory, "memory_target_fraction", False))
    # A folder on a network file system that hangs must not stop the worker.
    described = await asyncio.to_thread(describe, Path("/"), dask_worker.local_directory)
    return {**described, "spills": spills}


def describe(root: Path, directory: str) -> dict[str, Any]:
    """Describe what a process finds below `root`, and the file system that it spills to."""
    import psutil

    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        # Containers have names of their own; those that share a kernel share this.
        "host": text(root / "proc/sys/kernel/random/boot_id") or socket.gethostname(),
        "hostname": socket.gethostname(),
        "architecture": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "board": board(root),
        "container": in_container(root),
        "processors": sorted(processors),
        "cpu_quotas": cpu_quotas(root),
        "memory": psutil.virtual_memory().total,
        "memory_limits": memory_limits(root),
        "memory_limited": bool(control_groups(root, "memory")),
        "disk": file_system(root, os.path.realpath(directory)),
        "disk_free": shutil.disk_usage(directory).free,
        "folders": folders(root, directory, tempfile.gettempdir(), "/dev/shm"),  # noqa: S108 - looked at, not used
        "throttled": throttled_bits(root),
    }


def throttled_bits(root: Path) -> int | None:
    """Give a Raspberry Pi's throttling bits, from the kernel or from its own command; None elsewhere."""
    bits, command = throttled(root), shutil.which("vcgencmd")
    if bits is None and command:
        try:
            # As in "throttled=0x50000".
            answer = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=2, check=True)
            bits = int(answer.stdout.partition("=")[2], 16)
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
    return bits


async def process(dask_worker: "Nanny") -> dict[str, Any] | None:
    """Watch the process of a nanny's worker; None when there is none.

    Returns
    -------
    dict
        pid: its number; state: as psutil names it; computes: whether it used the processor meanwhile.
    """
    import psutil

    try:
        watched = psutil.Process(dask_worker.pid or 0)
        before = watched.cpu_times()
        await asyncio.sleep(WATCHED_SECONDS)
        after = watched.cpu_times()
        computes = after.user + after.system > before.user + before.system
        return {"pid": watched.pid, "state": watched.status(), "computes": computes}
    except psutil.Error:
        return None


async def knock_at(addresses: list[str]) -> dict[str, str]:
    """Knock at many ports; give address -> what `knock` says."""
    return dict(zip(addresses, await asyncio.gather(*map(knock, addresses)), strict=True))


async def reach(addresses: list[str], seconds: float, dask_worker: "Worker") -> dict[str, str]:
    """Send some bytes to the other workers and back, by connections made for it.

    Returns
    -------
    dict
        Address -> what went wrong, "" where nothing did.
    """
    from distributed.comm.core import connect

    gate = asyncio.Semaphore(CONCURRENCY)
    payload = os.urandom(PAYLOAD_BYTES)

    async def there_and_back(address: str) -> str:
        comm = None
        try:
            async with gate, asyncio.timeout(seconds):
                comm = await connect(address, timeout=seconds, **dask_worker.connection_args)
                await comm.write({"op": "echo", "data": payload, "reply": True})
                answer = await comm.read()
        except Exception as error:  # noqa: BLE001 - whatever keeps them apart is the answer
            return await knock(address) or said(error)
        finally:
            if comm:
                comm.abort()
        return "" if bytes(answer) == payload else "the bytes came back changed"

    others = [address for address in addresses if address != dask_worker.address]
    answers = await asyncio.gather(*(there_and_back(address) for address in others))
    return dict(zip(others, answers, strict=True))


async def knock(address: str) -> str:
    """Say why a port takes no connections; "" when it does."""
    place = urlsplit(address)
    try:
        async with asyncio.timeout(1):
            _reader, writer = await asyncio.open_connection(place.hostname, place.port)
    except TimeoutError:
        return "no answer, as from a host that is off or behind a firewall"
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    writer.close()
    return ""


def said(error: BaseException) -> str:
    """Say why a port that takes connections is of no use."""
    # Dask's errors say how long it tried and between which objects; the one at the bottom says why it failed.
    while error.__cause__:
        error = error.__cause__
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return SILENT
    return f"{type(error).__name__}: {error}"


for module in (system, sys.modules[__name__]):
    cloudpickle.register_pickle_by_value(module)
