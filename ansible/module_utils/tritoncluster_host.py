"""What modules that look at a host share: its files, and its commands in English."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any


def text(path: str) -> str:
    """Read a file; "" when it can't be read."""
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def write(module: Any, path: Path, content: str) -> None:
    """Let a module put a file in place, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(content)
    module.atomic_move(temporary, str(path), unsafe_writes=False)


def output(*command: str) -> str:
    """Give what a command prints; "" when it is not there or fails."""
    # Programs in Python look at LANGUAGE first, whatever LC_ALL says.
    english = {**os.environ, "LC_ALL": "C", "LANGUAGE": ""}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=english)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
