"""Estimates pi on the cluster, with 40 pieces of work: docker compose run --rm workload submit pi.py 40."""

import sys

import numpy as np
from distributed import Client

POINTS = 2_000_000


def inside(seed: int) -> int:
    """Count the points of a square that are in the circle."""
    x, y = np.random.default_rng(seed).random((2, POINTS))
    return int((x * x + y * y < 1).sum())


if __name__ == "__main__":
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with Client() as client:
        found = client.gather(client.map(inside, range(pieces)))
    print(4 * sum(found) / (pieces * POINTS))
