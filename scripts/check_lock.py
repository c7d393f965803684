"""Refuse a lock that would give different Pythons, or the two architectures, different packages.

The embedded cluster on a laptop with Python 3.13 has to be the one in the image with 3.11. uv may lock a package
several times, with markers that say where each holds; then versions differ between hosts, and so do results.
"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "uv.lock"
#: What runs in the cluster; the rest of the lock is for development.
RUNTIME = "tritoncluster"
PYTHONS = ("311", "312", "313")
ARCHITECTURES = ("x86_64", "aarch64")
WINDOWS = re.compile(r"'(win32|nt)'")
#: Python and ABI tag of a wheel for one version of CPython, or for all from one on.
EXACT, FROM = re.compile(r"cp(\d+)-cp\1"), re.compile(r"cp(\d+)-abi3")


def repeated(lock: dict[str, Any]) -> list[str]:
    """Name the packages that are locked more than once, in other versions or for other markers."""
    entries = Counter(package["name"] for package in lock["package"])
    return [
        f"{name} is locked {count} times: {', '.join(_variants(lock, name))}"
        for name, count in entries.items()
        if count > 1
    ]


def without_wheel(lock: dict[str, Any]) -> list[str]:
    """Name the packages of the cluster that some Python or architecture would have to compile."""
    missing = []
    packages = {package["name"]: package for package in lock["package"]}
    for name in sorted(_needed(packages, RUNTIME) - {RUNTIME}):
        tags = [
            "-".join(wheel["url"].rsplit("/", 1)[1][: -len(".whl")].split("-")[-3:])
            for wheel in packages[name].get("wheels", [])
        ]
        for python in PYTHONS:
            missing += [
                f"{name} has no wheel for CPython {python[0]}.{python[1:]} on Linux {architecture}"
                for architecture in ARCHITECTURES
                if not any(_fits(tag, python, architecture) for tag in tags)
            ]
    return missing


def _variants(lock: dict[str, Any], name: str) -> list[str]:
    return [
        f"{package.get('version')} ({'; '.join(package.get('resolution-markers', ['everywhere']))})"
        for package in lock["package"]
        if package["name"] == name
    ]


def _needed(packages: dict[str, Any], root: str) -> set[str]:
    """Collect a package and what it depends on, on Linux."""
    found, open_ends = set(), [root]
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            package = packages[name]
            # Also what the notebook has besides.
            extras = package.get("optional-dependencies", {}).values() if name == root else ()
            dependencies = sum(extras, package.get("dependencies", []))
            open_ends += [each["name"] for each in dependencies if not WINDOWS.search(each.get("marker", ""))]
    return found


def _fits(tag: str, python: str, architecture: str) -> bool:
    *interpreter, platform = tag.split("-")
    abi = "-".join(interpreter)
    if abi in {"py3-none", "py2.py3-none"}:
        right_python = True
    elif exact := EXACT.fullmatch(abi):
        right_python = exact[1] == python
    else:
        right_python = (since := FROM.fullmatch(abi)) is not None and int(since[1]) <= int(python)
    return right_python and (platform == "any" or ("manylinux" in platform and platform.endswith(architecture)))


def main(path: Path) -> int:
    """Print what is wrong with a lock, one a line."""
    lock = tomllib.loads(path.read_text(encoding="utf-8"))
    problems = repeated(lock) or without_wheel(lock)
    for problem in problems:
        print(f"{path.name}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else LOCK))
