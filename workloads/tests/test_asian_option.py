import math
import re
from collections.abc import Callable

import psutil
import pytest
from distributed import Client

from tritoncluster import montecarlo
from tritoncluster.errors import InputError
from tritoncluster.jobs import posters_way
from tritoncluster.jobs.asian_option import AsianOption, check_reach

PATHS = 60_000


@pytest.fixture(scope="module")
def in_this_process() -> montecarlo.Estimate:
    """The estimate from the same blocks, computed one by one from the last to the first."""
    option, sums = AsianOption(paths=PATHS, seed=3), montecarlo.Sums()
    for block in reversed(range(-(-PATHS // montecarlo.BLOCK_PATHS))):
        sums.add(*montecarlo.simulate_blocks(option.model, 3, block, [montecarlo.block_size(block, PATHS)]))
    return montecarlo.estimate(sums.in_order())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_same_to_the_last_bit_on_any_number_of_workers(
    cluster_of: Callable[[int], Client], in_this_process: montecarlo.Estimate, workers: int
):
    assert AsianOption(paths=PATHS, seed=3).run(cluster_of(workers)).estimate == in_this_process


def test_poster_value(client: Client):
    found = AsianOption(paths=200_000).run(client).estimate
    # The poster's two figures, from 10,000 paths each; 0.18 is the standard error of such a run.
    for poster in (11.97, 11.49):
        assert abs(found.mean - poster) < 3 * math.hypot(0.18, found.standard_error)


def test_discounted_price(client: Client):
    result = AsianOption(paths=5000).run(client).to_json()
    assert result["discounted_price"] == pytest.approx(result["estimate"] * math.exp(-0.02 * 4))
    assert result["paths"] == 5000
    low, high = result["confidence_95"]
    assert low < result["estimate"] < high


@pytest.mark.slow
def test_standard_error_is_reached_with_no_more_paths_than_it_takes(client: Client):
    option = AsianOption(standard_error=0.02)
    result = option.run(client).estimate
    assert result.standard_error <= 0.02
    assert result.paths < 200_000
    assert AsianOption(paths=result.paths).run(client).estimate == result


def test_without_volatility_the_payoff_is_certain(client: Client):
    option = AsianOption(paths=3000, volatility=0, strike=90)
    result = option.run(client).estimate
    assert result.mean == pytest.approx(option.model.control_mean - 90)
    assert result.standard_error == pytest.approx(0, abs=1e-9)


def test_histogram_counts_paths_that_pay(client: Client):
    result = AsianOption(paths=20_000).run(client)
    assert 0 < result.histogram.sum() < 20_000
    never = AsianOption(paths=2000, strike=1e6).run(client)
    assert never.histogram.sum() == 0
    assert never.estimate.mean == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"paths": 1}, "--paths must be at least 2, not 1"),
        ({"standard_error": 0.0}, "--standard-error must be greater than 0, not 0.0"),
        ({"paths": 10, "standard_error": 0.1}, "give either --paths or --standard-error, not both"),
        ({"days": 1}, "--days must be at least 2, not 1"),
        ({"volatility": -0.1}, "--volatility must be at least 0, not -0.1"),
        ({"spot": math.nan}, "--spot must be a finite number, not nan"),
        ({"drift": -400.0}, "--drift must be greater than -365, not -400.0"),
    ],
)
def test_bad_parameters(parameters: dict, message: str):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        AsianOption(**parameters).check()


@pytest.mark.parametrize(("target", "strike"), [(1e-9, 100.0), (1e-12, 250.0), (1e-6, 100.0), (1e-9, 20.0)])
def test_a_standard_error_out_of_reach_is_refused_with_one_that_is_not(target: float, strike: float):
    with pytest.raises(InputError, match=f"--standard-error {target:g} takes about") as refused:
        AsianOption(standard_error=target, strike=strike).check()
    assert re.search(r"about [\d.e+,]+ paths, about \S+ (s|min|h|days|years)", str(refused.value))
    instead = re.search(r"write --standard-error (\S+) or more", str(refused.value))
    assert instead
    AsianOption(standard_error=float(instead[1]), strike=strike).check()


def test_a_pilot_that_finds_it_out_of_reach_refuses_it_too():
    found = montecarlo.Estimate(0.01, 0.009, 16_384, 1e-4)
    with pytest.raises(InputError, match=r"about 1.6e\+14 paths, about 51,953 years on this cluster; write"):
        check_reach(found, 1e-9, 0.01, "on this cluster")
    check_reach(found, 1e-6, 0.01, "on this cluster")


def test_posters_ways_give_the_same_price(client: Client):
    option = {"seed": 0, "spot": 100.0, "strike": 100.0, "drift": 0.02, "volatility": 0.2, "days": 365 * 4}
    looped = posters_way.loop(200, **option)
    assert posters_way.tasks(client, 200, **option) == pytest.approx(looped, rel=1e-12)
    # Payoffs have a standard deviation of about 18.
    assert abs(looped - 11.6) < 4 * 18 / math.sqrt(200)


@pytest.mark.slow
def test_memory_of_a_worker_does_not_grow_with_paths(client: Client):
    def memory() -> dict[str, int]:
        return client.run(lambda: psutil.Process().memory_info().rss)

    AsianOption(paths=50_000).run(client)
    before = memory()
    AsianOption(paths=400_000).run(client)
    # All its prices would be 4.7 GB; what the allocator keeps is some MiB.
    assert all(after - before[address] < 40 * 2**20 for address, after in memory().items())
