"""A job of pieces that take a second each, however fast the machine is; `alone` does not wait. Prints their sum."""

import math
import sys
import time
from functools import partial

import numpy as np

PIECES = 400


def walk(piece: int, seconds: float) -> float:
    """Give where a random walk of its own ends."""
    time.sleep(seconds)
    return float(np.random.default_rng([2026, piece]).standard_normal(100_000).cumsum()[-1])


if sys.argv[1:] == ["alone"]:
    print("ends at", math.fsum(walk(piece, 0) for piece in range(PIECES)))
elif __name__ == "__main__":
    from distributed import Client

    from tritoncluster.balance import balanced_map

    with Client() as client:
        print("ends at", math.fsum(balanced_map(partial(walk, seconds=1), range(PIECES), client)))
