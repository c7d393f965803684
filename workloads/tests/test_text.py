"""Numbers and names as people read them: what holds for any."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritoncluster.report import text

#: What Bokeh reads as TeX, more often than in any text.
MARKUP = st.text(st.sampled_from("$\\[(]x"), max_size=12)
NAMES = st.text() | MARKUP


@given(st.lists(st.from_regex(r"[a-z]+", fullmatch=True)))
def test_a_list_reads_as_a_sentence_and_loses_nothing(items: list[str]):
    joined = text.listed(items)
    assert re.split(", | and ", joined) == (items or [""])
    assert joined.count(" and ") == (len(items) > 1)


@pytest.mark.parametrize(
    ("items", "expected"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ("abc", "a, b and c")]
)
def test_lists(items: list[str], expected: str):
    assert text.listed(items) == expected


@given(NAMES, st.integers(3, 30))
def test_a_shortened_name_has_both_ends(name: str, limit: int):
    short = text.shorten(name, limit)
    assert len(short) == min(len(name), limit)
    if short != name:
        head, _, tail = short.partition("…") if "…" not in name else (short[: limit // 2], "", short[limit // 2 + 1 :])
        assert name.startswith(head)
        assert name.endswith(tail)


@given(NAMES)
def test_a_label_is_no_markup_and_looks_the_same(name: str):
    label = text.label(name, len(name))
    assert not re.search(r"\$\$|\\[\[(]", label)
    assert label.replace("\u200b", "") == name.replace("\u200b", "")


#: Unit -> the seconds of each number in front of it.
SECONDS = {" years": [365 * 86400], " days": [86400], " h": [3600, 60], " min": [60, 1], " s": [1]}


@given(st.integers(0, 10**9))
def test_seconds_keep_their_size(whole: int):
    found = [float(part.replace(",", "")) for part in re.findall(r"[\d.,]+", text.seconds(whole))]
    each = next(each for unit, each in SECONDS.items() if unit in text.seconds(whole))
    assert 0 <= whole - sum(a * b for a, b in zip(found, each, strict=True)) < each[-1]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.474, "0.47 s"), (43.6, "43.6 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (169, "2 min 49 s"),
     (3599.4, "59 min 59 s"), (3599.5, "1 h 00 min"), (3900, "1 h 05 min"), (172_799, "47 h 59 min"),
     (4_000_000, "46 days"), (1e12, "31,709 years")],
)  # fmt: skip
def test_seconds(seconds: float, expected: str):
    assert text.seconds(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "no limit"), (2**20, "1 MiB"), (2**30 - 2**20, "1023 MiB"), (3 * 2**29, "1.5 GiB")]
)
def test_memory(size: int, expected: str):
    assert text.memory(size) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "–"), (True, "yes"), (np.bool_(0), "no"), (np.float64(1 / 3), "0.3333"), (1e-9, "1e-09"),
        (12_345, "12,345"), (np.int64(12_345), "12,345"), ([1, "ä"], '[1, "ä"]'), ({"a": (1, 2)}, '{"a": [1, 2]}'),
        ("rbf", "rbf"),
    ],
)  # fmt: skip
def test_values(content: object, expected: str):
    assert text.value(content) == expected


def test_settings():
    found = text.setting({"C": 0.5, "kernel": "rbf", "shrinking": True, "gamma": None})
    assert found == "C = 0.5, kernel = rbf, shrinking = True, gamma = None"
    assert text.setting({}) == "the defaults"


@pytest.mark.parametrize(("name", "expected"), [("3", "worker 3"), ("pi-3", "pi-3"), ("", "")])
def test_workers(name: str, expected: str):
    assert text.worker(name) == expected


def test_counts():
    assert [text.many(number, "tree") for number in (0, 1, 2000)] == ["0 trees", "1 tree", "2,000 trees"]
