"""The option as the poster computes it: a Python loop over the days, in one process or as one Dask task a path.

Both are here to be compared with; neither is a way to get a price.
"""

from typing import Any

import numpy as np
from dask import delayed
from distributed import Client

from tritoncluster.jobs.asian_option import DAYS_PER_YEAR


def payoff(path: int, *, seed: int, spot: float, strike: float, drift: float, volatility: float, days: int) -> float:
    """Simulate one path a day at a time and give its payoff."""
    normal = np.random.default_rng([seed, path]).normal
    dt = 1 / DAYS_PER_YEAR
    price = total = spot
    for _day in range(1, days):
        price *= 1 + normal(drift * dt, volatility * dt**0.5)
        total += price
    return max(0.0, total / days - strike)


def loop(paths: int, **option: Any) -> float:
    """Give the mean payoff of `paths` paths, one after the other."""
    return float(np.mean([payoff(path, **option) for path in range(paths)]))


def tasks(client: Client, paths: int, **option: Any) -> float:
    """Give the mean payoff of `paths` paths, each a task of its own."""
    mean = delayed(np.mean)([delayed(payoff, pure=False)(path, **option) for path in range(paths)])
    return float(client.compute(mean).result())
