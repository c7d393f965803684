import math

import numpy as np
import pytest
from distributed import Client

from tritoncluster import montecarlo
from tritoncluster.jobs.asian_option import AsianOption, average_prices
from tritoncluster.montecarlo import BLOCK_PATHS, Sums, block_size, estimate, simulate_blocks, simulate_on

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


def test_running_estimates_end_at_the_estimate():
    rows = rows_of(30 * BLOCK_PATHS)
    running = montecarlo.running_estimates(rows)
    assert [each.paths for each in running] == sorted({each.paths for each in running})
    assert running[-1].mean == pytest.approx(estimate(rows).mean, rel=1e-12)
