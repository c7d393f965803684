import doctest
import math
import sys

import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tritoncluster import montecarlo
from tritoncluster.jobs.asian_option import AsianOption, average_prices
from tritoncluster.montecarlo import (
    BLOCK_PATHS,
    Estimate,
    Sums,
    block_size,
    estimate,
    paths_to_go_on_with,
    simulate_blocks,
    simulate_on,
)

OPTION = AsianOption(days=50)


def rows_of(paths: int, seed: int = 0) -> np.ndarray:
    sizes = [block_size(block, paths) for block in range(-(-paths // BLOCK_PATHS))]
    return simulate_blocks(OPTION.model, seed, 0, sizes)[1]


def test_estimate_does_not_depend_on_the_order_of_blocks():
    rows = rows_of(20 * BLOCK_PATHS)
    shuffled = np.random.default_rng(0).permutation(rows)
    assert estimate(rows) == estimate(shuffled)


def test_a_block_is_the_same_alone_and_among_others():
    _, rows, _ = simulate_blocks(OPTION.model, 7, 0, [BLOCK_PATHS] * 5)
    _, alone, _ = simulate_blocks(OPTION.model, 7, 3, [BLOCK_PATHS])
    assert (rows[3] == alone[0]).all()


def test_blocks_have_different_streams():
    rows = rows_of(50 * BLOCK_PATHS)
    assert len(np.unique(rows[:, 1])) == 50


def test_more_paths_keep_the_blocks_that_were_there():
    assert (rows_of(3 * BLOCK_PATHS)[:3] == rows_of(4 * BLOCK_PATHS)[:3]).all()


def test_last_block_is_partial():
    rows = rows_of(BLOCK_PATHS + 10)
    assert rows[:, 0].tolist() == [BLOCK_PATHS, 10]
    assert estimate(rows).paths == BLOCK_PATHS + 10


def test_estimate_is_the_regression_on_the_control():
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(0,))))
    payoff, control = OPTION.model.simulate(stream, BLOCK_PATHS)
    x = control - OPTION.model.control_mean
    slope, intercept = np.polyfit(x, payoff, 1)
    residual = payoff - intercept - slope * x
    found = estimate(rows_of(BLOCK_PATHS))
    assert found.mean == pytest.approx(intercept, rel=1e-10)
    assert found.standard_error == pytest.approx(
        math.sqrt((residual**2).sum() / (BLOCK_PATHS - 2) / BLOCK_PATHS), rel=1e-2
    )


def test_average_has_the_expectation_in_closed_form():
    stream = np.random.default_rng(1)
    model = AsianOption(drift=0.5, days=365).model
    _, average = model.simulate(stream, 100_000)
    error = average.std() / math.sqrt(len(average))
    assert abs(average.mean() - model.control_mean) < 4 * error


def test_paths_are_those_of_the_definition():
    option = {"spot": 100.0, "strike": 90.0, "days": 30, "growth": 1.001, "shock": 0.01}
    payoff, average = average_prices(np.random.default_rng(3), 5, **option)
    normals = np.random.default_rng(3).standard_normal((5, 29))
    for path in range(5):
        price, prices = 100.0, [100.0]
        for normal in normals[path]:
            price *= 1.001 + 0.01 * normal
            prices.append(price)
        assert average[path] == pytest.approx(sum(prices) / 30, rel=1e-12)
        assert payoff[path] == pytest.approx(max(0, sum(prices) / 30 - 90), rel=1e-9)


def test_chunks_do_not_change_a_path(monkeypatch: pytest.MonkeyPatch):
    whole = rows_of(BLOCK_PATHS)
    monkeypatch.setattr("tritoncluster.jobs.asian_option.CHUNK_BYTES", 3 * 8 * OPTION.days)
    assert (rows_of(BLOCK_PATHS) == whole).all()


def test_interval_covers_the_mean_as_often_as_it_says():
    # The payoff of a strike of 0 is the average itself, whose mean is known; without the control's help.
    truth = OPTION.model.control_mean
    inside = 0
    for seed in range(200):
        rows = rows_of(BLOCK_PATHS, seed)
        rows = rows.copy()
        rows[:, 1] = rows[:, 3] + truth * rows[:, 0]  # y is the average price
        rows[:, 2] = rows[:, 4] + 2 * truth * rows[:, 3] + truth**2 * rows[:, 0]
        rows[:, 3:] = 0  # and there is no control
        low, high = estimate(rows).confidence_95
        inside += low <= truth <= high
    assert 178 <= inside <= 199  # binomial(200, 0.95): both ends are beyond 3.5 standard deviations


def test_simulate_on_adds_only_what_is_missing(client: Client):
    sums = Sums()
    simulate_on(client, OPTION.model, 0, 2 * BLOCK_PATHS, sums, lambda _done: None)
    first = sums.blocks[0]
    seen: list[int] = []
    simulate_on(client, OPTION.model, 0, 5 * BLOCK_PATHS, sums, seen.append)
    assert sums.blocks[0] is first
    assert sorted(sums.blocks) == [0, 1, 2, 3, 4]
    assert seen == [3, 4, 5]


def after_a_day(strike: float) -> tuple[AsianOption, float]:
    """Give an option on the average of two prices, and its mean payoff: that of a normal variable (L. Bachelier)."""
    option = AsianOption(days=2, volatility=0.2 * math.sqrt(365), drift=0.0, strike=strike)
    deviation, distance = 10.0, (100.0 - strike) / 10.0
    density = math.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)
    return option, deviation * (density + distance * (1 + math.erf(distance / math.sqrt(2))) / 2)


def blocks_of(option: AsianOption, count: int) -> np.ndarray:
    return simulate_blocks(option.model, option.seed, 0, [BLOCK_PATHS] * count)[1]


def misses(found: list[Estimate], truth: float) -> float:
    return float(np.mean([not each.confidence_95[0] <= truth <= each.confidence_95[1] for each in found]))


@pytest.mark.parametrize("blocks", [1, 16])
@pytest.mark.parametrize("strike", [50, 60, 65, 70, 75, 80, 90, 100, 110, 120, 125, 130, 135, 140, 150])
def test_the_interval_holds_for_any_strike(strike: float, blocks: int):
    # Beyond 120 or below 80 a sample's own error misses in 10 to 100 of 100 cases.
    option, truth = after_a_day(strike)
    rows = blocks_of(option, 300 * blocks)
    samples = [estimate(part) for part in np.split(rows, 300)]
    # Five in a hundred are right; ten would be four standard deviations of 300 tries above.
    assert misses(samples, truth) <= 0.10
    assert all(each.standard_error > 0 for each in samples)
    assert not all(each.shown for each in samples) or 60 < strike < 140


@pytest.mark.parametrize("target", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("strike", [55, 70, 80, 100, 120, 130, 135, 140, 145, 160])
def test_a_run_to_a_standard_error_has_it_and_its_interval_holds(strike: float, target: float):
    option, truth = after_a_day(strike)
    ends = []
    # A stretch of the same blocks for each run, as long as it asks for.
    rows, place = blocks_of(option, 16), 0
    while len(ends) < 60 and place < 12_000:
        paths: int | None = 16 * BLOCK_PATHS
        while paths is not None:
            blocks = paths // BLOCK_PATHS
            if place + blocks > len(rows):
                grown = simulate_blocks(option.model, option.seed, len(rows), [BLOCK_PATHS] * (place + blocks + 500))
                rows = np.concatenate([rows, grown[1]])
            found = estimate(rows[place : place + blocks])
            paths = paths_to_go_on_with(found, target)
        place += blocks
        ends.append(found)
    assert all(0 < each.standard_error <= target for each in ends)
    # With few runs, one in twenty is soon two of ten.
    assert misses(ends, truth) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(ends))


@given(target=st.floats(1e-4, 10), strike=st.sampled_from([50.0, 100.0, 130.0, 200.0]))
@settings(max_examples=50)
def test_a_run_that_goes_on_goes_up_by_whole_blocks_and_no_further_than_it_says(target: float, strike: float):
    found = estimate(blocks_of(after_a_day(strike)[0], 4))
    paths = paths_to_go_on_with(found, target)
    if paths is None:
        assert found.standard_error <= target
    else:
        assert paths % BLOCK_PATHS == 0
        assert paths > found.paths
        assert found.error_after(paths) <= target


def test_bounds_and_measurements_can_be_told_apart():
    assert not estimate(rows_of(4 * BLOCK_PATHS)).too_rare
    never = estimate(blocks_of(after_a_day(1000)[0], 4))
    assert never.too_rare
    assert never.mean == 0
    assert never.shown == 0
    assert never.standard_error == pytest.approx(6 * 10 / never.paths, rel=0.05)


@given(
    calls=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 2 * BLOCK_PATHS)), max_size=12),
    paths=st.integers(1, 5000),
)
@settings(max_examples=40)
def test_sums_hold_each_block_once_whatever_was_there(calls: list[tuple[int, int]], paths: int):
    option = after_a_day(100)[0]
    sums = Sums()
    for first, size in calls:  # one block or two, the last one cut short
        sizes = [min(size, BLOCK_PATHS), *([size - BLOCK_PATHS] if size > BLOCK_PATHS else [])]
        sums.add(*simulate_blocks(option.model, 0, first, sizes))
    for block in sums.missing(paths):
        sums.add(*simulate_blocks(option.model, 0, block, [block_size(block, paths)]))
    assert sums.missing(paths) == []
    expected = Sums()
    for block in sums.blocks:
        expected.add(*simulate_blocks(option.model, 0, block, [sums.paths_of(block)]))
    assert (sums.in_order() == expected.in_order()).all()
    assert (sums.histogram == expected.histogram).all()
    assert all(sums.paths_of(block) >= block_size(block, paths) for block in range(-(-paths // BLOCK_PATHS)))


@pytest.mark.parametrize("at", range(1, 12))
def test_an_interruption_leaves_no_half_of_a_block(at: int):
    # Ctrl-C comes between any two lines; here before the one with this number of those that `add` runs.
    option = after_a_day(100)[0]
    result = simulate_blocks(option.model, 0, 0, [100, BLOCK_PATHS])
    sums = Sums()
    sums.add(*simulate_blocks(option.model, 0, 0, [50]))
    lines = iter(range(1, 1000))

    def trace(frame: object, event: str, _argument: object) -> object:
        if frame.f_code is Sums.add.__code__ and event == "line" and next(lines) == at:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        sums.add(*result)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    for block in sums.blocks:
        alone = simulate_blocks(option.model, 0, block, [sums.paths_of(block)])
        assert (sums.counts[block] == alone[2][0]).all()
    sums.add(*result)
    assert sums.paths_of(0) == 100
    assert sums.paths_of(1) == BLOCK_PATHS
    assert (sums.histogram == result[2].sum(axis=0)).all()


def test_simulate_on_fills_gaps_and_completes_a_block(client: Client):
    paths = 4 * BLOCK_PATHS + 10
    sums = Sums()
    sums.add(*simulate_blocks(OPTION.model, 0, 1, [BLOCK_PATHS]))
    sums.add(*simulate_blocks(OPTION.model, 0, 3, [300]))
    simulate_on(client, OPTION.model, 0, paths, sums, lambda _done: None)
    whole = simulate_blocks(OPTION.model, 0, 0, [block_size(block, paths) for block in range(5)])
    assert (sums.in_order() == whole[1]).all()
    assert (sums.histogram == whole[2].sum(axis=0)).all()


def test_examples_of_the_docstrings_hold():
    found = doctest.testmod(montecarlo)
    assert found.attempted
    assert not found.failed


def test_running_estimates_end_at_the_estimate():
    rows = rows_of(30 * BLOCK_PATHS)
    running = montecarlo.running_estimates(rows)
    assert [each.paths for each in running] == sorted({each.paths for each in running})
    assert running[-1].mean == pytest.approx(estimate(rows).mean, rel=1e-12)
