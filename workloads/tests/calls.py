"""What tests let a cluster do, and how they see that nothing of it is left there."""

import time
from pathlib import Path

from distributed import Client

#: For workers in processes of their own to find the functions of this folder.
IMPORTS = {"PYTHONPATH": str(Path(__file__).parent)}


def square(number: int) -> int:
    return number * number


def slow_square(number: int, seconds: float = 0.02) -> int:
    time.sleep(seconds)
    return number * number


def nothing_left(client: Client) -> bool:
    """Wait until no task and no data of this client is on the cluster."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not any(client.has_what().values()) and not any(client.processing().values()) and not client.futures:
            return True
        time.sleep(0.05)
    return False
