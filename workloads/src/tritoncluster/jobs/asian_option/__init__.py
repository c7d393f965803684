"""The price of an Asian call option by Monte Carlo: many short paths, nothing to send."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from distributed import Client
from joblib import Parallel, delayed
from numpy.typing import NDArray

from tritoncluster.errors import InputError, JobStoppedError
from tritoncluster.jobs import Job, Progress, silent
from tritoncluster.jobs.parameters import check_limits, parameter
from tritoncluster.montecarlo import (
    BLOCK_PATHS,
    Estimate,
    Floats,
    Model,
    Sums,
    block_size,
    estimate,
    paths_to_go_on_with,
    simulate_blocks,
    simulate_on,
)
from tritoncluster.quantities import seconds as duration

if TYPE_CHECKING:
    from tritoncluster.record import Record
    from tritoncluster.report.content import Block, JobPage

DAYS_PER_YEAR = 365
#: Bytes of prices computed at a time: they stay in a core's cache.
CHUNK_BYTES = 256 * 1024
TOO_RARE = "payoffs too rare for this many paths: the error is a bound on what they can amount to"
#: Blocks that tell how many paths a standard error will take.
PILOT_BLOCKS = 16
#: More paths than this, an hour on four cores, have to be asked for by their number.
MAX_PATHS = 10**9
#: Days simulated before anything starts, to tell whether a standard error is out of reach: some hundredths of a second.
TRIAL_DAYS = 3_000_000
DEFAULT_PATHS = 1_000_000
#: The part that a comparison does in the poster's ways: some seconds each.
LOOPED_PATHS, DELAYED_PATHS = 1000, 1000


@dataclass(frozen=True)
class AsianOptionResult:
    """The estimate, and the sums that it comes from.

    Parameters
    ----------
    rows
        Sums of each block in block order, shape (blocks, 6), as in `montecarlo.Sums.blocks`.
    histogram, edges
        Positive payoffs counted in bins, shape (bins,), and the bins' edges, shape (bins + 1,); the last bin counts all
        above its lower edge.
    discount
        What turns a payoff at expiry into a price today.
    """

    rows: Floats
    histogram: NDArray[np.int64]
    edges: Floats
    discount: float

    @property
    def estimate(self) -> Estimate:
        """The mean payoff, not discounted."""
        return estimate(self.rows)

    @property
    def headline(self) -> str:
        """The most important of it in one sentence."""
        found = self.estimate
        price = self.discount * found.mean
        text = f"mean payoff {found.mean:.4f} ± {found.standard_error:.4f}, worth {price:.4f} today"
        rare = f"; {TOO_RARE}" if found.too_rare else ""
        return f"{text}, from {found.paths:,} paths{rare}"

    def to_json(self) -> dict[str, Any]:
        """Give the job's fields of `result.json`."""
        found = self.estimate
        return {
            "estimate": found.mean,
            "standard_error": found.standard_error,
            "paths": found.paths,
            "confidence_95": list(found.confidence_95),
            "discounted_price": self.discount * found.mean,
        }


@dataclass(frozen=True, kw_only=True)
class AsianOption(Job):
    """Estimate the mean payoff of an Asian call option, whose strike is compared with the average price."""

    name: ClassVar[str] = "asian-option"
    title: ClassVar[str] = "Asian option"
    about: ClassVar[str] = (
        "The price of an option that pays what the average price of four years, or of another number of days, exceeds "
        "the strike by: the mean payoff of many random paths. Blocks of paths have their own random streams, so the "
        "estimate does not depend on the cluster."
    )
    tasks: ClassVar[Mapping[str, str]] = {"simulate_block": "simulate paths"}

    paths: int | None = parameter(
        None, minimum=2, demo=1_000_000, help=f"Paths to simulate; {DEFAULT_PATHS:,} if no standard error is given."
    )
    standard_error: float | None = parameter(
        None,
        above=0,
        unit="money",
        help="Simulate until the standard error of the estimate is this small. The interval of 95% around the estimate "
        "then holds for rare payoffs, too: what no path has shown yet is counted as error.",
    )
    seed: int = parameter(0, minimum=0, help="Seed of the random streams.")
    spot: float = parameter(100.0, above=0, unit="money", help="Price of the underlying today.")
    strike: float = parameter(100.0, minimum=0, unit="money", help="Strike price.")
    drift: float = parameter(0.02, unit="per year", help="Drift of the price, and the rate that discounts the payoff.")
    volatility: float = parameter(0.2, minimum=0, unit="per square root of a year", help="Volatility of the price.")
    days: int = parameter(
        4 * DAYS_PER_YEAR, minimum=2, unit="days", help="Daily prices until expiry, today's included."
    )

    def check(self) -> None:
        """Raise InputError for parameters outside their limits."""
        check_limits(self)
        if self.paths is not None and self.standard_error is not None:
            raise InputError("give either --paths or --standard-error, not both")
        if self.drift <= -DAYS_PER_YEAR:
            raise InputError(f"--drift must be greater than -{DAYS_PER_YEAR}, not {self.drift}")
        if self.standard_error is not None:
            # What is far out of reach shows before a cluster starts; what is nearly so, in the pilot on it.
            paths = min(BLOCK_PATHS, max(16, TRIAL_DAYS // self.days))
            begun = time.perf_counter()
            _first, rows, _counts = simulate_blocks(self.model, self.seed, 0, [paths])
            pace = (time.perf_counter() - begun) / paths
            check_reach(estimate(rows), self.standard_error, pace, "on one core of this machine")

    @property
    def model(self) -> Model:
        """What the workers simulate; the average price is the control variate of the payoff."""
        growth = 1 + self.drift / DAYS_PER_YEAR
        # E[p_i] = spot * growth**i, because a day's shock is independent of the price before.
        expected_average = self.spot * math.fsum(growth**day for day in range(self.days)) / self.days
        years = self.days / DAYS_PER_YEAR
        # A geometric Brownian motion's average has about this standard deviation; only the plot's width depends on it.
        spread = max(expected_average * self.volatility * math.sqrt(years / 3), 0.01 * expected_average)
        top = max(expected_average - self.strike, 0.0) + 4 * spread
        simulate = partial(
            average_prices,
            spot=self.spot,
            strike=self.strike,
            days=self.days,
            growth=growth,
            shock=self.volatility / math.sqrt(DAYS_PER_YEAR),
        )
        return Model(simulate, expected_average, np.linspace(0, top, 61))

    @property
    def discount(self) -> float:
        """The value today of one unit of money at expiry."""
        return math.exp(-self.drift * self.days / DAYS_PER_YEAR)

    def result(self, sums: Sums) -> AsianOptionResult:
        """Turn sums, of all blocks or of some, into a result."""
        return AsianOptionResult(sums.in_order(), np.asarray(sums.histogram), self.model.histogram_edges, self.discount)

    def run(self, client: Client, progress: Progress = silent) -> AsianOptionResult:
        """Simulate on the cluster, block by block."""
        sums = Sums()
        model = self.model
        paths = PILOT_BLOCKS * BLOCK_PATHS if self.standard_error is not None else self.paths or DEFAULT_PATHS

        def finished(blocks: int) -> None:
            progress("blocks", blocks, -(-paths // BLOCK_PATHS))

        begun = time.perf_counter()
        try:
            while True:
                simulate_on(client, model, self.seed, paths, sums, finished)
                if self.standard_error is None:
                    return self.result(sums)
                found = estimate(sums.in_order())
                more = paths_to_go_on_with(found, self.standard_error)
                if more is None:
                    return self.result(sums)
                check_reach(found, self.standard_error, (time.perf_counter() - begun) / found.paths, "on this cluster")
                paths = more
        except (KeyboardInterrupt, Exception) as error:
            raise JobStoppedError(self.result(sums) if sums.blocks else None) from error

    def run_with_joblib(self) -> Estimate:
        """Simulate the same blocks in joblib's calls; the number of paths has to be given."""
        model, paths = self.model, self.paths or DEFAULT_PATHS
        calls = (
            delayed(simulate_blocks)(model, self.seed, block, [block_size(block, paths)])
            for block in range(-(-paths // BLOCK_PATHS))
        )
        return estimate(np.concatenate([rows for _first, rows, _histogram in Parallel()(calls)]))

    def posters_ways(self, client: Client) -> list[tuple[str, float, Callable[[], object]]]:
        """Give a Python loop over days, and a task for each path; both do a small part of the work."""
        from tritoncluster.jobs import posters_way  # it needs this module

        paths = self.paths or DEFAULT_PATHS
        looped, delayed_paths = min(paths, LOOPED_PATHS), min(paths, DELAYED_PATHS)
        option = {name: value for name, value in asdict(self).items() if name not in ("paths", "standard_error")}
        return [
            ("Python loop", looped / paths, lambda: posters_way.loop(looped, **option)),
            ("one task a path", delayed_paths / paths, lambda: posters_way.tasks(client, delayed_paths, **option)),
        ]

    @classmethod
    def page(cls, result: AsianOptionResult, record: "Record") -> "JobPage":
        """Draw how the estimate settles, and what paths pay."""
        from tritoncluster.jobs.asian_option import page

        return page.of(result, record)

    @classmethod
    def compared(cls) -> "list[Block]":
        """Say how the poster's ways compare."""
        from tritoncluster.jobs.asian_option import page

        return page.compared()


def check_reach(found: Estimate, standard_error: float, seconds_per_path: float, where: str) -> None:
    """Raise InputError for a standard error that takes more than `MAX_PATHS`, judged by what some paths show."""
    needed = found.paths_for(standard_error)
    if needed > MAX_PATHS:
        reach = found.error_after(MAX_PATHS)
        unit = 10.0 ** (math.floor(math.log10(reach)) - 1)  # of its second digit, to which it is rounded up
        raise InputError(
            f"--standard-error {standard_error:g} takes about {needed:.2g} paths, about "
            f"{duration(needed * seconds_per_path)} {where}; write --standard-error {math.ceil(reach / unit) * unit:g} "
            "or more, or --paths with how many you want"
        )


def average_prices(
    stream: np.random.Generator, paths: int, *, spot: float, strike: float, days: int, growth: float, shock: float
) -> tuple[Floats, Floats]:
    """Simulate paths of daily prices.

    Each price is the one before times 1 + e, e normal with mean `growth` - 1 and standard deviation `shock`.

    Parameters
    ----------
    stream
        Where normals come from: path by path, a day at a time.
    paths
        How many.
    spot, strike, days, growth, shock
        The first price; what the average is compared with; prices in a path; mean and standard deviation of a day.

    Returns
    -------
    payoff, average : ndarray of shape (paths,)
        max(0, average - strike), and the average price.
    """
    average = np.empty(paths)
    rows = max(1, min(paths, CHUNK_BYTES // (8 * (days - 1))))
    prices = np.empty((rows, days - 1))
    for start in range(0, paths, rows):
        chunk = prices[: min(rows, paths - start)]
        stream.standard_normal(out=chunk)
        chunk *= shock
        chunk += growth
        np.cumprod(chunk, axis=1, out=chunk)
        np.sum(chunk, axis=1, out=average[start : start + len(chunk)])
    average += 1  # the first price, on the scale of the spot price
    average *= spot / days
    return np.maximum(average - strike, 0), average
