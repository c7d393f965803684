"""What the machines promise against what they have: memory, processors, disks, power."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dask.utils import format_bytes

from tritoncluster.doctor.finding import Finding, count, fine, wrong
from tritoncluster.nodes import Worker
from tritoncluster.versions import name_some

#: Of its limit, where a nanny ends a worker (Dask's distributed.worker.memory.terminate), and what the nanny takes.
NANNY_ENDS_AT = 0.95
NANNY_BYTES = 75 * 2**20
#: Below this much free disk, a worker that spills will not get far.
DISK_BYTES = 2**30
#: A file system with less than this share free, and less than `DISK_BYTES`, is nearly full.
NEARLY_FULL = 0.1
#: File systems that are memory.
IN_MEMORY = {"tmpfs", "ramfs"}
#: What packages are built for.
PYTHON_BITS = 64
#: Bits of a Raspberry Pi's get_throttled; 16 bits up, the same since it started.
POWER = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "hot"}
SINCE_START = 16

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Machine:
    """Where a worker runs, as it sees it.

    Parameters
    ----------
    host, hostname
        What all containers of one machine have in common, and what this one is called.
    architecture, bits, board
        The kernel's architecture, the width of Python's pointers, and a small computer's name.
    container
        Whether Docker or Podman started it.
    processors
        Numbers of those it may run on.
    cpu_quotas
        Control group -> processors' worth of time that it may use.
    memory
        The host's, in bytes.
    memory_limits, memory_limited
        Control group -> bytes it may use; False when the kernel can't limit memory.
    disk, disk_free
        Type of the file system that the worker spills to, bytes free on it.
    throttled
        A Raspberry Pi's bits, None elsewhere.
    spills
        Whether it puts data on disk when memory is short.
    folders
        Of each file system that the worker and its tasks write to: a path, its type, the free share, bytes free.
    """

    host: str
    hostname: str
    architecture: str
    bits: int
    board: str
    container: bool
    processors: list[int]
    cpu_quotas: dict[str, float]
    memory: int
    memory_limits: dict[str, int]
    memory_limited: bool
    disk: str
    disk_free: int
    throttled: int | None
    spills: bool
    folders: Sequence[tuple[str, str, float, int]] = ()


Seat = tuple[Worker, Machine]


def memory(seats: Sequence[Seat]) -> Iterator[Finding]:
    """Compare what workers promise Dask with what control groups and hosts let them have."""
    check, found = "memory", False
    for finding in (*_unlimited(seats), *_killed_early(seats), *_overbooked(seats)):
        found = True
        yield finding
    if not found:
        hosts = {machine.host: machine.memory for _worker, machine in seats}
        promised = sum(worker.memory_limit for worker, _machine in seats)
        capped = sum(bool(machine.memory_limits) for _worker, machine in seats)
        enforced = f"; the kernel limits {capped} of {len(seats)} workers, nannies the rest" if capped else ""
        yield fine(check, f"{format_bytes(promised)} promised of {format_bytes(sum(hosts.values()))}{enforced}")


def _unlimited(seats: Iterable[Seat]) -> Iterator[Finding]:
    for worker, machine in seats:
        if not worker.memory_limit:
            yield wrong(
                "memory",
                worker.name,
                "no memory limit: it neither spills nor pauses before the system ends it",
                "start the worker with --memory-limit",
            )
        elif not (worker.nanny or machine.memory_limits):
            yield wrong(
                "memory",
                worker.name,
                f"nothing enforces its limit of {format_bytes(worker.memory_limit)}: neither nanny nor system",
                "start it with its nanny (without --no-nanny), or in a container with a limit",
            )
        if machine.container and not machine.memory_limited:
            raspberry = "Raspberry Pi" in machine.board
            file = "/boot/firmware/cmdline.txt" if raspberry else "the kernel's command line"
            yield wrong(
                "memory",
                worker.name,
                f"{machine.board or machine.hostname} can't limit memory: the container's limit is ignored",
                f"add cgroup_enable=memory cgroup_memory=1 to {file} and restart the machine",
            )


def _killed_early(seats: Iterable[Seat]) -> Iterator[Finding]:
    for (_host, _group, limit), members in _grouped(seats, _limited).items():
        promised = sum(worker.memory_limit for worker, _machine in members)
        nannies = NANNY_BYTES * sum(worker.nanny for worker, _machine in members)
        kept = sum(worker.memory_limit * (NANNY_ENDS_AT if worker.nanny else 1) for worker, _machine in members)
        if promised and kept + nannies > limit:
            share = max(limit - nannies, 0) / len(members)
            yield wrong(
                "memory",
                _names(members),
                f"{format_bytes(promised)} promised, but the kernel kills at {format_bytes(limit)}, before Dask acts",
                f"start with --memory-limit {share // 2**20:.0f}MiB for each worker, or raise the container's limit",
            )


def _overbooked(seats: Iterable[Seat]) -> Iterator[Finding]:
    for (_host, total), members in _grouped(seats, lambda _worker, machine: [(machine.host, machine.memory)]).items():
        promised = sum(worker.memory_limit for worker, _machine in members)
        if promised > total:
            yield wrong(
                "memory",
                _names(members),
                f"{format_bytes(promised)} promised on {members[0][1].hostname}, which has {format_bytes(total)}",
                f"start with --memory-limit {total // len(members) // 2**20}MiB for each worker, or fewer workers",
            )


def spilling(seats: Sequence[Seat]) -> Iterator[Finding]:
    """Look where workers put what does not fit into memory."""
    check, found = "spilling", False
    for worker, machine in seats:
        if not (machine.spills and worker.memory_limit):
            continue
        if machine.disk in IN_MEMORY:
            found = True
            yield wrong(
                check,
                worker.name,
                f"spills to {worker.directory}, which is memory itself ({machine.disk})",
                "give it a folder on a disk (--local-directory), or switch spilling off",
            )
        elif machine.disk_free < DISK_BYTES:
            found = True
            yield wrong(
                check,
                worker.name,
                f"{format_bytes(machine.disk_free)} free for spilling in {worker.directory}",
                "free some space, give it another folder (--local-directory), or switch spilling off",
            )
    if not found:
        free = [machine.disk_free for worker, machine in seats if machine.spills and worker.memory_limit]
        yield fine(check, f"at least {format_bytes(min(free))} free" if free else "off")


def folders(seats: Sequence[Seat]) -> Iterator[Finding]:
    """Look for file systems that are nearly full; the disk that a worker spills to is `spilling`'s."""
    check, least = "folders", 1.0
    # Workers of one container see the same.
    full: dict[tuple[str, str, str], tuple[str, float, int]] = {}
    members: defaultdict[tuple[str, str, str], list[Seat]] = defaultdict(list)
    for worker, machine in seats:
        for path, kind, share, free in machine.folders:
            spills_there = path == worker.directory and machine.spills and worker.memory_limit
            if share < NEARLY_FULL and free < DISK_BYTES and not spills_there:
                place = (machine.host, machine.hostname, path)
                full[place] = (kind, share, free)
                members[place].append((worker, machine))
            else:
                least = min(least, share)
    for place, (kind, share, free) in full.items():
        _host, hostname, path = place
        memory = ", which is memory," if kind in IN_MEMORY else ""
        yield wrong(
            check,
            _names(members[place]),
            f"{path}{memory} is nearly full: {share:.0%} of it, {format_bytes(free)}, is free",
            f"on {hostname}: du -xah {path} | sort -h | tail shows what to remove; or give it more room",
        )
    if not full:
        yield fine(check, f"at least {least:.0%} free where tasks put files")


def processors(seats: Sequence[Seat]) -> Iterator[Finding]:
    """Compare workers' threads with the processors, and the share of their time, that they may use."""
    check, found = "processors", False
    groups = [
        *((have, members, f"a quota of {have:g} CPU") for (*_, have), members in _grouped(seats, _quota).items()),
        *((len(may), members, f"{len(may)} CPU") for (_, may), members in _grouped(seats, _affinity).items()),
    ]
    for have, members, what in groups:
        threads = sum(worker.threads for worker, _machine in members)
        # A worker has one thread at least, however small its share.
        if threads > math.ceil(have):
            found = True
            yield wrong(
                check,
                _names(members),
                f"{threads} threads on {what} of {members[0][1].hostname}",
                f"start {math.ceil(have)} threads there in all (--nthreads, --nworkers), or allow more CPU",
            )
    if not found:
        threads, hosts = sum(worker.threads for worker, _machine in seats), {machine.host for _worker, machine in seats}
        yield fine(check, f"{count(threads, 'thread')} on {count(len(hosts), 'host')}")


def architectures(seats: Sequence[Seat]) -> Iterator[Finding]:
    """Tell what kinds of processors there are; Python has to be a 64-bit one."""
    check, found = "architectures", False
    for worker, machine in seats:
        if machine.bits < PYTHON_BITS:
            found = True
            kernel = "a 64-bit kernel" if machine.architecture in {"aarch64", "x86_64"} else machine.architecture
            yield wrong(
                check,
                worker.name,
                f"{machine.bits}-bit Python on {kernel}: no current NumPy, and another arithmetic",
                "install a 64-bit system (Raspberry Pi OS 64-bit) on it",
            )
    if not found:
        kinds = Counter(machine.architecture for _worker, machine in seats)
        yield fine(check, ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())))


def power(seats: Iterable[Seat]) -> Iterator[Finding]:
    """Read what Raspberry Pis tell of their supply and temperature; no finding where there is none of them."""
    boards = {machine.host: machine for _worker, machine in seats if machine.throttled is not None}
    for machine in boards.values():
        bits = machine.throttled or 0
        now = [name for bit, name in POWER.items() if bits >> bit & 1]
        before = [name for bit, name in POWER.items() if bits >> (bit + SINCE_START) & 1 and name not in now]
        if now or before:
            said = [f"{', '.join(now)} now"] * bool(now) + [f"{', '.join(before)} since it started"] * bool(before)
            weak = "under-voltage" in (*now, *before)
            remedy = "give it a stronger power supply and a short cable" if weak else "cool it: a heat sink, a fan, air"
            yield wrong("power", machine.hostname, "; ".join(said), remedy)
    if boards and not any(machine.throttled for machine in boards.values()):
        yield fine("power", f"{count(len(boards), 'Raspberry Pi')} not throttled since the start")


def _limited(_worker: Worker, machine: Machine) -> list[tuple[str, str, int]]:
    return [(machine.host, group, limit) for group, limit in machine.memory_limits.items()]


def _quota(_worker: Worker, machine: Machine) -> list[tuple[str, str, float]]:
    return [(machine.host, group, quota) for group, quota in machine.cpu_quotas.items()]


def _affinity(_worker: Worker, machine: Machine) -> list[tuple[str, frozenset[int]]]:
    return [(machine.host, frozenset(machine.processors))]


def _grouped(seats: Iterable[Seat], keys: Callable[[Worker, Machine], Iterable[Key]]) -> dict[Key, list[Seat]]:
    groups: defaultdict[Key, list[Seat]] = defaultdict(list)
    for seat in seats:
        for key in keys(*seat):
            groups[key].append(seat)
    return groups


def _names(members: Iterable[Seat]) -> str:
    return name_some(tuple(worker.name for worker, _machine in members))
