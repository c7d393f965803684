"""Limits of parameters: what is inside runs, what is outside is one line that names the option and the limit."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritoncluster.errors import InputError
from tritoncluster.jobs.parameters import check_limits, demo_values, option_name, parameter


@dataclass
class Work:
    at_least: float | None = parameter(2.0, minimum=2, demo=3.0, help="")
    greater: float = parameter(1.0, above=0, help="")
    any_number: float = parameter(0.0, help="")
    some_file: str | None = parameter(None, help="")


def allowed(at_least: float | None, greater: float) -> bool:
    return (at_least is None or at_least >= 2) and greater > 0


@given(st.none() | st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_held_to_their_limits(at_least: float | None, greater: float):
    work = Work(at_least=at_least, greater=greater)
    if allowed(at_least, greater):
        check_limits(work)
        return
    with pytest.raises(InputError) as refused:
        check_limits(work)
    if at_least is None or at_least >= 2:
        assert str(refused.value) == f"--greater must be greater than 0, not {greater}"
    else:
        assert str(refused.value) == f"--at-least must be at least 2, not {at_least}"


@pytest.mark.parametrize("edge", [2, 2.0, math.nextafter(2, 3)])
def test_the_least_is_allowed(edge: float):
    check_limits(Work(at_least=edge, greater=math.ulp(0.0)))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["at_least", "greater", "any_number"])
def test_only_finite_numbers_are_numbers(name: str, number: float):
    with pytest.raises(InputError, match=f"^{'--' + name.replace('_', '-')} must be a finite number, not {number}$"):
        check_limits(Work(**{name: number}))


def test_what_is_no_number_has_no_limits():
    check_limits(Work(some_file="grid.yaml"))


def test_options_and_demonstrations():
    assert [option_name(item) for item in Work.__dataclass_fields__.values()] == [
        "--at-least", "--greater", "--any-number", "--some-file",
    ]  # fmt: skip
    assert demo_values(Work) == {"at_least": 3.0}
