"""Monte Carlo estimates whose value depends on the seed and the number of paths alone.

Paths come in blocks of fixed size. Block b draws from the stream `SeedSequence(seed, spawn_key=(b,))` (NumPy's
"spawning", https://numpy.org/doc/stable/reference/random/parallel.html), so it does not matter which worker computes
it, when, or how often. A block gives sums; sums of blocks are added exactly (`math.fsum`), so their order does not
matter either: the estimate is the same to the last bit on any number of workers.

A control variate, a quantity of the same path whose expectation is known, removes the part of the error that the two
share (P. Glasserman, Monte Carlo Methods in Financial Engineering, 2003, section 4.1).

The error that a sample shows of itself is worth nothing where payoffs are rare: a sample in which no path paid has a
standard error of 0. `estimate` therefore never gives less than what payoffs that were not seen could amount to, so
that a 95% interval holds the mean in about 95 of 100 runs, rare payoffs or not, and a run may stop as soon as it is
narrow enough. The limit of that: payoffs whose size, once there is one, is a few deviations of the control. Simulated
lognormal averages at a volatility of 0.5 a year or less miss in at most 7 of 100 runs at any strike; at a volatility of
1, strikes of thirty and more times the mean miss in 10 to 31.
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
#: With fewer paying paths than this, counted as `estimate` does, a sample's own error is too small too often.
ENOUGH_PAYING = 50
#: Standard error of a sum of payoffs none of which was seen, in standard deviations of the control: what a sample lacks
#: is expected in it at most 3.7 times (97.5% confidence, Poisson), three deviations each; 11 is 1.96 standard errors.
UNSEEN = 6

Floats: TypeAlias = NDArray[np.float64]
#: Of a block at most `BLOCK_PATHS` each.
Counts: TypeAlias = NDArray[np.uint16]
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

    A block is there once it is in `blocks`, with its whole count in `counts`: an interruption at any point leaves no
    half of one.

    Attributes
    ----------
    blocks : dict of int to ndarray of shape (6,)
        For each block: paths, and the sums of y, y², x, x², x y; y the payoff, x the control less its expectation.
    counts : dict of int to ndarray of int, shape (bins,)
        For each block: positive payoffs by size.
    """

    blocks: dict[int, Floats] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)

    def add(self, first_block: int, rows: Floats, counts: Counts) -> None:
        """Take in consecutive blocks; one that is there with as many paths or more stays.

        Parameters
        ----------
        first_block, rows, counts
            As `simulate_blocks` gives them.
        """
        for block, (row, count) in enumerate(zip(rows, counts, strict=True), first_block):
            if self.paths_of(block) < row[0]:
                self.blocks.pop(block, None)
                self.counts[block] = count.copy()
                self.blocks[block] = row.copy()

    def paths_of(self, block: int) -> int:
        """Count the paths of a block that are in; 0 where it is not there."""
        return int(self.blocks[block][0]) if block in self.blocks else 0

    def missing(self, paths: int) -> list[int]:
        """List the blocks of `paths` paths that are not there, or not whole."""
        return [block for block in range(-(-paths // BLOCK_PATHS)) if self.paths_of(block) < block_size(block, paths)]

    def in_order(self) -> Floats:
        """Give the blocks' sums in block order, shape (blocks, 6)."""
        return np.array([self.blocks[block] for block in sorted(self.blocks)])

    @property
    def histogram(self) -> NDArray[np.int64]:
        """Positive payoffs of all blocks, shape (bins,)."""
        return np.sum([self.counts[block] for block in self.blocks], axis=0, dtype=np.int64)


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Parameters
    ----------
    mean, standard_error, paths
        Infinite is the error of fewer than three paths.
    shown
        The error that the sample shows of itself. Where it is less than `standard_error`, payoffs are too rare for
        this many paths, and the error is a bound on what they can amount to.
    """

    mean: float
    standard_error: float
    paths: int
    shown: float

    @property
    def confidence_95(self) -> tuple[float, float]:
        """The interval of 1.96 standard errors on both sides."""
        half = 1.959963984540054 * self.standard_error
        return self.mean - half, self.mean + half

    @property
    def too_rare(self) -> bool:
        """Whether the error is a bound rather than a measurement."""
        return self.standard_error > self.shown

    def paths_for(self, standard_error: float) -> int:
        """Say how many paths, those that there are included, an error that small will take, as far as can be known.

        What a sample shows falls with the square root of the paths, a bound with their number.
        """
        shown, bound = self.shown / standard_error, self.standard_error / standard_error
        return math.ceil(self.paths * max(shown**2, bound if self.too_rare else 0.0))

    def error_after(self, paths: int) -> float:
        """Say how small the error will be after `paths` paths in all; the inverse of `paths_for`."""
        share = self.paths / paths
        return max(self.shown * math.sqrt(share), self.standard_error * share if self.too_rare else 0.0)


def block_size(block: int, paths: int) -> int:
    """Count the paths in a block when there are `paths` in all."""
    return min(BLOCK_PATHS, paths - block * BLOCK_PATHS)


def simulate_blocks(model: Model, seed: int, first_block: int, sizes: list[int]) -> tuple[int, Floats, Counts]:
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
    counts : ndarray of int, shape (len(sizes), bins)
        As in `Sums.counts`.
    """
    edges = model.histogram_edges
    rows, counts = np.empty((len(sizes), 6)), np.empty((len(sizes), len(edges) - 1), dtype=np.uint16)
    for row, count, (block, size) in zip(rows, counts, enumerate(sizes, first_block), strict=True):
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(block,))))
        payoff, control = model.simulate(stream, size)
        # Less its expectation: sums of squares of small numbers lose fewer digits.
        control = control - model.control_mean
        row[:] = size, payoff.sum(), (payoff**2).sum(), control.sum(), (control**2).sum(), (payoff * control).sum()
        count[:] = np.histogram(np.minimum(payoff[payoff > 0], edges[-1]), edges)[0]
    return first_block, rows, counts


def simulate_block(model: Model, seed: int, paths: int, block: int) -> tuple[int, Floats, Counts]:
    """Simulate one of the blocks of `paths` paths, as `simulate_blocks` does; runs on a worker."""
    return simulate_blocks(model, seed, block, [block_size(block, paths)])


def estimate(rows: Floats) -> Estimate:
    """Combine blocks into the mean payoff, with the control variate.

    The standard error is that of the regression of payoffs on controls, unless payoffs are rare. Paying paths are
    counted as (sum of y)² / sum of y², which is their number where all pay the same and less where a few make up the
    sum (L. Kish, Survey Sampling, 1965, section 11.7). With fewer than `ENOUGH_PAYING` the regression's error is raised
    to what it would be with an as much smaller sample. And it is never less than `UNSEEN` standard deviations of the
    control in one path: what the sample may have missed, on either side.

    Parameters
    ----------
    rows
        As in `Sums.blocks`, shape (blocks, 6), in any order.

    Examples
    --------
    Two blocks of 1,000 paths each. The control has the expectation 0, and payoffs follow it closely:

    >>> import numpy as np
    >>> stream = np.random.default_rng(0)
    >>> x = stream.standard_normal((2, 1000))
    >>> y = np.maximum(0, 5 + 2 * x + 0.1 * stream.standard_normal(x.shape))
    >>> def sums(x, y):
    ...     return np.stack([[x.shape[1]] * 2, *(a.sum(axis=1) for a in (y, y**2, x, x**2, x * y))], axis=1)
    >>> found = estimate(sums(x, y))
    >>> found.paths, found.too_rare
    (2000, False)
    >>> low, high = found.confidence_95
    >>> low < 5.004 < high and high - low < 0.02
    True

    Where no path pays, the error is not 0 but what may have been missed:

    >>> never = estimate(sums(x, 0 * y))
    >>> never.mean, never.shown, round(never.standard_error, 3), never.too_rare
    (0.0, 0.0, 0.003, True)
    """
    n, y, yy, x, xx, xy = (math.fsum(column) for column in rows.T)
    mean_x, mean_y = x / n, y / n
    variance_x, variance_y = max(0.0, xx / n - mean_x**2), max(0.0, yy / n - mean_y**2)
    covariance = xy / n - mean_x * mean_y
    slope = covariance / variance_x if variance_x > 0 else 0.0
    residual = max(0.0, variance_y - slope * covariance)
    # Two fitted numbers, mean and slope, are two degrees of freedom less.
    shown = math.sqrt(residual / (n - 2)) if n > 2 else math.inf
    paying = y * y / yy if yy > 0 else math.inf
    raised = shown * math.sqrt(max(1.0, ENOUGH_PAYING / paying))
    return Estimate(mean_y - slope * mean_x, max(raised, UNSEEN * math.sqrt(variance_x) / n), int(n), shown)


def paths_to_go_on_with(found: Estimate, standard_error: float) -> int | None:
    """Say up to how many paths a run to a standard error goes on, in whole blocks; None where it has it.

    A run that looks once or twice, and whose error holds for what it has not seen either, keeps the coverage of its
    interval; one that looked after each block would stop on the smallest of many errors.
    """
    if found.standard_error <= standard_error:
        return None
    # Two percent more spare most runs another round.
    needed = math.ceil(max(1.02 * found.paths_for(standard_error), found.paths + 1) / BLOCK_PATHS)
    return needed * BLOCK_PATHS


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
        What to draw. `paths` may be more than in an earlier call: a last block that was cut short is simulated anew.
    sums
        Takes the blocks as they finish; what an error or Ctrl-C leaves in it is good.
    progress
        Called with the number of blocks that `sums` has.

    Raises
    ------
    ClusterLostError
        When the scheduler goes away.
    """
    simulate = partial(simulate_block, model, seed, paths)
    for result in balanced_map(simulate, sums.missing(paths), client, ordered=False):
        sums.add(*result)
        progress(len(sums.blocks))
