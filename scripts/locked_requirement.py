"""Print a package of uv.lock as a requirement of pip, with the hashes of its wheels.

Runs before anything is installed: on the standard library alone.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "uv.lock"


def requirement(lock: dict[str, Any], name: str) -> str:
    """Give the line for a requirements file."""
    (package,) = (package for package in lock["package"] if package["name"] == name)
    return " ".join([f"{name}=={package['version']}", *(f"--hash={wheel['hash']}" for wheel in package["wheels"])])


if __name__ == "__main__":
    print(requirement(tomllib.loads(LOCK.read_text(encoding="utf-8")), sys.argv[1]))
