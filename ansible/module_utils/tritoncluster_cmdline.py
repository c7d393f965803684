"""A Raspberry Pi's cmdline.txt, which its firmware gives to the kernel, as it is found in the wild."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible.module_utils.tritoncluster_host import text

#: Let the kernel limit memory; the second for older kernels.
WORDS = "cgroup_enable=memory cgroup_memory=1"
RUNNING = "/proc/cmdline"
#: Says that the Pi was restarted for these words.
MARK = "/etc/tritoncluster/restarted-for-memory"


def find(boot: str) -> Path | None:
    """Give the file that the firmware reads: in Ubuntu's folder of the system that is current, or before Debian 12."""
    for path in (Path(boot, "current/cmdline.txt"), Path(boot, "cmdline.txt"), Path("/boot/cmdline.txt")):
        # In its old place may be one that says where it is now.
        if path.is_file() and chosen(lines_of(read(path)), "") is not None:
            return path
    return None


def read(path: Path) -> str:
    """Give what is in a file to the last byte, with its line ends."""
    return os.fsdecode(path.read_bytes())


def lines_of(content: str) -> list[str]:
    """Divide it at the ends of lines, which stay where they are; a lone form feed is none."""
    return re.findall(r"[^\n]*\n|[^\n]+$", content)


def chosen(lines: list[str], running: str) -> int | None:
    """Give the number of the line that is the kernel's: that which it runs with, or names a root, or is the first."""
    could = [number for number, line in enumerate(lines) if is_of_kernel(line)]
    words = set(running.split())

    def likely(number: int) -> tuple[int, bool]:
        there = lines[number].split()
        return len(words.intersection(there)), any(word.startswith("root=") for word in there)

    return max(could, key=likely) if could else None


def is_of_kernel(line: str) -> bool:
    """Tell whether a line could be the kernel's, rather than a comment or a sentence."""
    words = line.split()
    return not line.lstrip().startswith("#") and any(
        re.match(r"[\w.-]+=\S|(quiet|rootwait|ro|rw)$", word) for word in words
    )


def enables_memory(line: str) -> bool:
    """Tell whether the kernel limits memory with this line; of words that contradict each other the last counts."""
    found = False
    for word in line.split():
        name, _, value = word.partition("=")
        if name in ("cgroup_enable", "cgroup_disable") and "memory" in value.split(","):
            found = name == "cgroup_enable"
        elif word == "cgroup_memory=0":
            found = False
    return found


def enabled(content: str, running: str) -> str:
    """Give the content whose line for the kernel limits memory; all else stays, to the last byte."""
    lines = lines_of(content)
    number = chosen(lines, running)
    if number is None or enables_memory(lines[number]):
        return content
    kept = lines[number].rstrip()
    lines[number] = f"{kept} {WORDS}{lines[number][len(kept) :]}"
    return "".join(lines)


def disabled(content: str, before: str, after: str) -> str:
    """Take back what changed `before` into `after`; what the owner has changed since then stays."""
    if content == after:
        return before
    return content.replace(f" {WORDS}", "", 1) if before != after else content


def problem(boot: str, *, limits: bool, running: str, mark: str = MARK) -> str:
    """Say in one line why memory could not be limited; "" when it can be, now or after one restart."""
    path = find(boot)
    if path is None:
        return "" if limits else f"there is no cmdline.txt with a line for the kernel in {boot}: set raspberry_pi_boot"
    if limits:
        return ""
    content = read(path)
    if enabled(content, running) != content:
        return (
            ""
            if can_write(path)
            else f"{path} can't be written: let `sudo mount -o remount,rw {path.parent}` work there"
        )
    if enables_memory(running):
        return "its kernel can't limit memory, though it was started to: run `sudo apt full-upgrade`, and restart it"
    if text(mark).split() == content.split():
        return f"it was restarted, and its kernel did not get what {path} says: set raspberry_pi_boot to another folder"
    return ""


def can_write(path: Path) -> bool:
    """Tell whether a file can be replaced."""
    return os.access(str(path.parent), os.W_OK)
