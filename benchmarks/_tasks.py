"""What stands for a task of so many seconds at speed 1; no more is imported here than a worker has anyway."""

#: Turns of `burn` that stand for a second: about those of a processor of today.
TURNS = 4000
#: Bytes that a task leaves.
LEFT = 100_000


def nap(seconds: float, *_dependencies: object) -> None:
    """Take as long as `seconds` of work take a worker of this speed."""
    import os
    import time

    time.sleep(seconds / float(os.environ["SPEED"]))


def burn(seconds: float, *_dependencies: object) -> bytes:
    """Compute, as much for each of `seconds` on any machine, and give as many bytes as an array may have."""
    import numpy as np

    values = np.linspace(0.0, 1.0, 20_000)
    for _ in range(max(1, round(seconds * TURNS))):
        np.sin(values, out=values)
    return bytes(LEFT)
