"""What modules that look at a host share: its files, and its commands in English."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def text(path: str) -> str:
    """Read a file; "" when it can't be read."""
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def output(*command: str) -> str:
    """Give what a command prints; "" when it is not there or fails."""
    # Programs in Python look at LANGUAGE first, whatever LC_ALL says.
    english = {**os.environ, "LC_ALL": "C", "LANGUAGE": ""}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=english)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
