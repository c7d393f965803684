"""Monte Carlo estimates whose value depends on the seed and the number of paths alone.

Paths come in blocks of fixed size. Block b draws from the stream `SeedSequence(seed, spawn_key=(b,))` (NumPy's
"spawning", https://numpy.org/doc/stable/reference/random/parallel.html), so it does not matter which worker computes
it, when, or how often. A block gives sums; sums of blocks are added exactly (`math.fsum`), so their order does not
matter either: the estimate is the same to the last bit on any number of workers.

A control variate, a quantity of the same path whose expectation is known, removes the part of the error that the two
share (P. Glasserman, Monte Carlo Methods in Financial Engineering, 2003, section 4.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from tritoncluster.balance import balanced_map

#: Paths that share a random stream.
BLOCK_PATHS = 1024

Floats: TypeAlias = NDArray[np.float64]
#: Draws a number of paths from a stream: payoffs and control values, each of shape (paths,).
Simulate: TypeAlias = Callable[[np.random.Generator, int], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Model:
    """What is simulated.

    Parameters
    ----------
    simulate
        Draws paths; it is sent to the workers.
    control_mean
        The known expectation of the control values.
    histogram_edges
        Edges of the bins in which positive payoffs are counted, shape (bins + 1,); the last bin takes larger ones too.
    """

    simulate: Simulate
    control_mean: float
    histogram_edges: Floats


@dataclass
class Sums:
    """Sums over finished blocks.

    Attributes
    ----------
    blocks : dict of int to ndarray of shape (6,)
        For each block: paths, and the sums of y, y², x, x², x y; y the payoff, x the control less its expectation.
    histogram : ndarray of int, shape (bins,)
        Positive payoffs.
    """

    blocks: dict[int, Floats] = field(default_factory=dict)
    histogram: NDArray[np.int64] | int = 0

    def add(self, first_block: int, rows: Floats, histogram: NDArray[np.int64]) -> None:
        """Take in consecutive blocks."""
        self.blocks.update(enumerate(rows, first_block))
        self.histogram = self.histogram + histogram

    def in_order(self) -> Floats:
        """Give the blocks' sums in block order, shape (blocks, 6)."""
        return np.array([self.blocks[block] for block in sorted(self.blocks)])


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error."""

    mean: float
    standard_error: float
    paths: int

    @property
    def confidence_95(self) -> tuple[float, float]:
        """The interval of 1.96 standard errors on both sides."""
        half = 1.959963984540054 * self.standard_error
        return self.mean - half, self.mean + half


def block_size(block: int, paths: int) -> int:
    """Count the paths in a block when there are `paths` in all."""
    return min(BLOCK_PATHS, paths - block * BLOCK_PATHS)


def simulate_blocks(
    model: Model, seed: int, first_block: int, sizes: list[int]
) -> tuple[int, Floats, NDArray[np.int64]]:
    """Simulate consecutive blocks; runs on a worker.

    Parameters
    ----------
    model, seed
        What to draw, and from which family of streams.
    first_block
        The number of the first block.
    sizes
        Paths in each block.

    Returns
    -------
    first_block : int
    rows : ndarray of shape (len(sizes), 6)
        As in `Sums.blocks`.
    histogram : ndarray of int, shape (bins,)
    """
    rows = np.empty((len(sizes), 6))
    edges = model.histogram_edges
    histogram = np.zeros(len(edges) - 1, dtype=np.int64)
    for row, (block, size) in zip(rows, enumerate(sizes, first_block), strict=True):
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(block,))))
        payoff, control = model.simulate(stream, size)
        # Less its expectation: sums of squares of small numbers lose fewer digits.
        control = control - model.control_mean
        row[:] = size, payoff.sum(), (payoff**2).sum(), control.sum(), (control**2).sum(), (payoff * control).sum()
        histogram += np.histogram(np.minimum(payoff[payoff > 0], edges[-1]), edges)[0]
    return first_block, rows, histogram


def simulate_block(model: Model, seed: int, paths: int, block: int) -> tuple[int, Floats, NDArray[np.int64]]:
    """Simulate one of the blocks of `paths` paths, as `simulate_blocks` does; runs on a worker."""
    return simulate_blocks(model, seed, block, [block_size(block, paths)])


def estimate(rows: Floats) -> Estimate:
    """Combine blocks into the mean payoff, with the control variate.

    Parameters
    ----------
    rows
        As in `Sums.blocks`, shape (blocks, 6), in any order.
    """
    n, y, yy, x, xx, xy = (math.fsum(column) for column in rows.T)
    mean_x, mean_y = x / n, y / n
    variance_x, variance_y = max(0.0, xx / n - mean_x**2), max(0.0, yy / n - mean_y**2)
    covariance = xy / n - mean_x * mean_y
    slope = covariance / variance_x if variance_x > 0 else 0.0
    residual = max(0.0, variance_y - slope * covariance)
    # Two fitted numbers, mean and slope, are two degrees of freedom less.
    error = math.sqrt(residual / (n - 2)) if n > 2 else math.inf
    return Estimate(mean_y - slope * mean_x, error, int(n))


def running_estimates(rows: Floats, points: int = 200) -> list[Estimate]:
    """Estimate from the first blocks, for about `points` numbers of them, spread evenly on a logarithmic scale."""
    counts = np.unique(np.geomspace(1, len(rows), points).astype(int))
    cumulative = np.cumsum(rows, axis=0)
    return [estimate(cumulative[count - 1 : count]) for count in counts]


def simulate_on(
    client: Client, model: Model, seed: int, paths: int, sums: Sums, progress: Callable[[int], None]
) -> None:
    """Simulate on the cluster the blocks of `paths` paths that `sums` does not have, and add them to it.

    Parameters
    ----------
    client
        Whose cluster to use.
    model, seed, paths
        What to draw. `paths` may be more than in an earlier call, then in whole blocks until there.
    sums
        Takes the blocks as they finish; what an error or Ctrl-C leaves in it is good.
    progress
        Called with the number of blocks that `sums` has.

    Raises
    ------
    ClusterLostError
        When the scheduler goes away.
    """
    blocks = range(len(sums.blocks), -(-paths // BLOCK_PATHS))
    for result in balanced_map(partial(simulate_block, model, seed, paths), blocks, client, ordered=False):
        sums.add(*result)
        progress(len(sums.blocks))
