"""What Linux tells a process about itself: plain reading of files below a root folder.

These functions travel to workers by value (see `tritoncluster.doctor.probes`), so they give nothing but built-in types.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: From here on, a memory limit is the kernel's way to say that there is none.
UNLIMITED = 2**60


def text(path: Path) -> str:
    """Read a file; "" when it can't be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def mounts(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Give each mount's root within its file system, mount point, type and the file system's own options."""
    for line in text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        place, (kind, _source, *options) = before.split()[3:5], after.split()
        mounted, point = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name) for name in place)
        yield mounted, point, kind, " ".join(options)


def file_system(root: Path, path: str) -> str:
    """Give the type of the file system that holds `path`, "" when unknown."""
    best = ("", "")
    for _mounted, point, kind, _options in mounts(root):
        # A later mount hides an earlier one on the same point.
        if PurePosixPath(path).is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def folders(root: Path, *paths: str) -> list[tuple[str, str, float, int]]:
    """Tell how full file systems are.

    Returns
    -------
    list
        A path, the type of its file system, the free share of its bytes or of its numbers of files, whichever is less,
        and its free bytes; one for each file system that holds one of `paths`, those that are missing left out.
    """
    found: dict[int, tuple[str, str, float, int]] = {}
    for path in paths:
        try:
            device, status = os.stat(path).st_dev, os.statvfs(path)  # noqa: PTH116 - a path has no statvfs either
        except (OSError, AttributeError):  # Windows has no statvfs
            continue
        # Some count no files.
        shares = [
            free / total
            for free, total in ((status.f_bavail, status.f_blocks), (status.f_favail, status.f_files))
            if total
        ]
        if shares:
            kind = file_system(root, os.path.realpath(path))
            found.setdefault(device, (path, kind, min(shares), status.f_bavail * status.f_frsize))
    return list(found.values())


def control_groups(root: Path, controller: str) -> list[tuple[str, Path]]:
    """List the control groups that this process is in, for one controller, from its own to the topmost in sight.

    Returns
    -------
    list
        A name, the same for all processes of the group and of no other on this machine, and the folder. Empty when
        the kernel has the controller switched off.
    """
    own = {}
    for line in text(root / "proc/self/cgroup").splitlines():
        _hierarchy, controllers, group = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), group))
    try:
        # A link to something that is no path, as in cgroup:[4026531835].
        namespace = str((root / "proc/self/ns/cgroup").readlink())
    except OSError:
        namespace = ""
    for mounted, point, kind, options in mounts(root):
        top = root / point.lstrip("/")
        # Version 1 mounts a controller alone or with others (cpu,cpuacct); version 2 mounts one tree for all, and is
        # there without controllers on a machine that has both.
        if kind == "cgroup" and controller in options.split(","):
            path = PurePosixPath(own.get(controller, "/"))
        elif kind == "cgroup2" and controller in text(top / "cgroup.controllers").split():
            path = PurePosixPath(own.get("", "/"))
        else:
            continue
        # A container may see its own group as the top of the tree, under whatever name.
        below = path.relative_to(mounted).parts if path.is_relative_to(mounted) and ".." not in path.parts else ()
        return [
            (f"{namespace} {PurePosixPath(mounted, *below[:depth])}", top.joinpath(*below[:depth]))
            for depth in range(len(below), -1, -1)
        ]
    return []


def memory_limits(root: Path) -> dict[str, int]:
    """Give the limit in bytes of each control group around this process that has one."""
    found = {}
    for name, folder in control_groups(root, "memory"):
        limit = text(folder / "memory.max") or text(folder / "memory.limit_in_bytes")
        if limit.isdigit() and int(limit) < UNLIMITED:
            found[name] = int(limit)
    return found


def cpu_quotas(root: Path) -> dict[str, float]:
    """Give the processors' worth of time of each control group around this process that has a quota."""
    found = {}
    for name, folder in control_groups(root, "cpu"):
        quota, _, period = text(folder / "cpu.max").partition(" ")
        quota, period = quota or text(folder / "cpu.cfs_quota_us"), period or text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            found[name] = int(quota) / int(period)
    return found


def in_container(root: Path) -> bool:
    """Tell whether Docker or Podman started this process."""
    return any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))


def board(root: Path) -> str:
    """Give what the machine calls itself, as in "Raspberry Pi 4 Model B Rev 1.4"; "" where it does not."""
    # Docker hides the device tree, but not what a Pi's kernel adds to the list of processors.
    model = re.search(r"^Model\s*: (.+)$", text(root / "proc/cpuinfo"), re.MULTILINE)
    return text(root / "sys/firmware/devicetree/base/model") or (model[1] if model else "")


def throttled(root: Path) -> int | None:
    """Give a Raspberry Pi's throttling bits, None where the kernel does not tell."""
    # soc/soc:firmware on most of them, with addresses in both names on a Pi 5.
    for file in root.glob("sys/devices/platform/soc*/soc*:firmware/get_throttled"):
        if re.fullmatch(r"(0x)?[0-9a-f]+", bits := text(file)):
            return int(bits, 16)
    return None
