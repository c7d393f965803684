"""What tells calls apart from run to run: nothing that changes a result may be left out, nothing else should be in."""

import os
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import _search
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.callback_contexts import reduce_context
from tritoncluster.balance.contents import Contents
from tritoncluster.balance.fingerprints import DoubtError, Fingerprints, may_have_sets
from tritoncluster.journal.surroundings import Surroundings, UnknownCodeError
from tritoncluster.units import Unit


def fingerprint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    packer = Packer(Contents(), identify=True)
    return Fingerprints(lambda _modules: b"").of(packer.pack((function, args, kwargs)))


#: A script in which each number may be edited: `{0}` and so on.
SCRIPT = """
import math
from dataclasses import dataclass
from functools import partial

SHIFT = {0}
TABLE = {{"a": {1}, "b": [1, 2, {2}]}}
WORDS = {{"one", "two", "three" + "!" * ({3} % 3)}}

def helper(x, scale={4}):
    return x * scale + len(WORDS) + TABLE["a"]

def recursive(x):
    return 0 if x <= 0 else {5} + recursive(x - 1)

class Base:
    step = {6}

    def walk(self, x):
        return x + self.step

@dataclass
class Model(Base):
    size: int = {7}

    def __call__(self, x):
        return self.walk(x) * self.size + sum(TABLE["b"])

def closed(k):
    def inner(x):
        # A set in code, in any order.
        return x * k if x in {{"p", "q", "r", {8}}} else helper(x) + SHIFT
    return inner

def task(x, *, key=lambda v: v + {9}):
    return (helper(x), recursive(3), Model()(x), closed({10})(x), key(x), math.floor(x), model(x), bound(x))

model = Model(size={11})
bound = partial(helper, scale={12})
"""
NUMBERS = 13


def script(numbers: list[int], *, above: str = "") -> dict[str, Any]:
    """Run the script, as Python runs one."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(above + SCRIPT.format(*numbers), "/somewhere/script.py", "exec"), names)  # noqa: S102
    return names


@given(
    st.lists(st.integers(0, 3), min_size=NUMBERS, max_size=NUMBERS),
    st.lists(st.integers(0, 3), min_size=NUMBERS, max_size=NUMBERS),
    st.integers(0, NUMBERS - 1),
)
@settings(max_examples=60)
def test_an_edited_script_has_other_fingerprints(numbers: list[int], others: list[int], place: int):
    one_edit = [*numbers[:place], numbers[place] + 4, *numbers[place + 1 :]]
    found = fingerprint(script(numbers)["task"], 5)
    # Lines that move and comments mean nothing.
    assert fingerprint(script(numbers, above="# a comment\n\n")["task"], 5) == found
    for edited in (others, one_edit):
        if [each % 3 if at == 3 else each for at, each in enumerate(edited)] != [
            each % 3 if at == 3 else each for at, each in enumerate(numbers)
        ]:
            assert fingerprint(script(edited)["task"], 5) != found


@given(
    st.lists(st.integers(0, 2), min_size=NUMBERS, max_size=NUMBERS),
    st.lists(st.integers(0, 2), min_size=NUMBERS, max_size=NUMBERS),
)
@settings(max_examples=60)
def test_same_fingerprint_same_result(numbers: list[int], others: list[int]):
    one, other = script(numbers)["task"], script(others)["task"]
    if fingerprint(one, 7) == fingerprint(other, 7):
        assert one(7) == other(7)


arrays = st.builds(
    lambda shape, kind, seed: np.random.default_rng(seed).integers(0, 3, shape).astype(kind),
    st.sampled_from([(3,), (2, 2), (5, 1000), (300_000,)]),
    st.sampled_from(["int32", "float64", "uint8"]),
    st.integers(0, 5),
)


@given(arrays, st.integers(0, 10**9), st.sampled_from([abs, lambda values: values]))
@settings(max_examples=40)
def test_changed_data_has_another_fingerprint(values: np.ndarray, place: int, function: Callable[..., Any]):
    found = fingerprint(function, values, {"k": values})
    assert fingerprint(function, values.copy(), {"k": values.copy()}) != fingerprint(function, values, {"k": 1})
    changed = values.copy()
    changed.flat[place % changed.size] += 1
    assert fingerprint(function, changed, {"k": changed}) != found
    frame = pd.DataFrame({"a": values.ravel()})
    assert fingerprint(function, frame) == fingerprint(function, frame.copy())
    assert fingerprint(function, frame) != fingerprint(function, pd.DataFrame({"a": changed.ravel()}))
    assert fingerprint(function, values) == fingerprint(function, values.copy())
    assert fingerprint(function, values.astype("float32")) != fingerprint(function, values)


def test_view_that_can_not_be_changed_is_another_argument():
    values = np.arange(3.0)
    fixed = values.copy()
    fixed.flags.writeable = False
    assert fingerprint(abs, values) != fingerprint(abs, fixed)


def test_random_states_that_have_advanced_are_others():
    state = np.random.RandomState(0)
    first = fingerprint(abs, state)
    assert fingerprint(abs, np.random.RandomState(0)) == first
    state.rand()
    assert fingerprint(abs, state) != first
    generator = np.random.default_rng(0)
    first = fingerprint(lambda rng: rng.random(), generator)
    generator.random()
    assert fingerprint(lambda rng: rng.random(), generator) != first
    assert fingerprint(abs, RandomForestClassifier(random_state=0)) != fingerprint(
        abs, RandomForestClassifier(random_state=1)
    )


def test_arguments_of_other_types_or_places_are_others():
    calls = [((1,), {}), ((True,), {}), ((1.0,), {}), (("1",), {}), ((1, None), {}), ((None, 1), {}), ((), {"a": 1})]
    calls += [(([1],), {}), (([[1]],), {}), (((1,),), {}), ((0.0,), {}), ((-0.0,), {}), ((), {"b": 1}), (({1},), {})]
    found = Counter(fingerprint(print, *args, **kwargs) for args, kwargs in calls)
    assert set(found.values()) == {1}


STABLE = """
import sys, enum, typing
from functools import partial
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from tritoncluster.balance.arguments import Packer
from tritoncluster.balance.contents import Contents
from tritoncluster.balance.fingerprints import Fingerprints

class Colour(enum.Enum):
    RED = 1
    BLUE = "b"

class Meta(type): pass

class Own(metaclass=Meta):
    __slots__ = ("a", "b")
    def __init__(self): self.a, self.b = 1, {"x", "y", "z"}
    @property
    def p(self): return super().__hash__()
    @staticmethod
    def s(): return Own
    @classmethod
    def c(cls): return cls

STOP = {"a", "the", "of"}
DATA = np.arange(50_000.0)

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def uses(x): return DATA.sum() + len(STOP) + even(x) + np.linalg.norm([x])

calls = {
    "map": (lambda x: x + 1, (1,)),
    "uses": (uses, (2,)),
    "enum": (print, (Colour.BLUE, Own())),
    "search": (print, (make_pipeline(CountVectorizer(stop_words=list(STOP)[:0] or None), SVC()), {"C": 1})),
    "words": (partial(print, STOP), (frozenset({"p", "q"}), {"k": {1, 2}})),
    "array": (uses, (DATA, DATA[::2], np.arange(6).reshape(2, 3).T)),
}
packer = Packer(Contents(), identify=True)
prints = Fingerprints(lambda modules: repr(sorted(modules)).encode())
if len(sys.argv) > 1:
    calls = dict(reversed(list(calls.items())))
    import sklearn.linear_model  # what is imported besides means nothing
print("\\n".join(sorted(f"{name} {prints.of(packer.pack((f, a, {}))).hex()}" for name, (f, a) in calls.items())))
"""


def test_other_processes_find_the_same(tmp_path: Path):
    (tmp_path / "script.py").write_text(STABLE)
    told = {
        subprocess.run(
            [sys.executable, "script.py", *more],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, more in (("1", []), ("2", []), ("3", ["another order"]))
    }
    assert len(told) == 1
    assert told.pop().count("\n") == 6


def test_what_has_no_order_or_only_a_name_has_no_fingerprint(tmp_path: Path):
    with pytest.raises(DoubtError, match="set of object"):
        fingerprint(print, {object(), object()}, lambda: 1)
    with pytest.raises(DoubtError, match="the name of the file"):
        fingerprint(print, __file__)
    with pytest.raises(DoubtError, match="sent the path"):
        fingerprint(print, [Path(__file__)])
    with pytest.raises(DoubtError, match=r"more than 20,000 objects"):
        fingerprint(print, lambda: 1, [[number] for number in range(30_000)])
    assert fingerprint(print, "no file.txt", Path("none"))


NESTED = st.recursive(
    st.one_of(st.integers(), st.binary(max_size=300), st.text(max_size=20), st.frozensets(st.integers(), max_size=3)),
    lambda values: st.one_of(
        st.lists(values, max_size=4),
        st.tuples(values, values),
        st.dictionaries(st.text(max_size=3), values, max_size=4),
    ),
)


def has_set(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_set, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_set, value))
    return isinstance(value, set | frozenset) and bool(value)


@given(NESTED, st.sets(st.text(max_size=3)))
def test_sets_are_seen_wherever_they_are(nested: Any, words: set[str]):
    for value in (nested, [nested, words], {"k": (words, nested)}):
        assert may_have_sets([cloudpickle.dumps(value, protocol=5)]) or not has_set(value)


def test_numbers_do_not_look_like_sets():
    """Nothing is taken apart for them, which takes long."""
    assert not may_have_sets([pickle.dumps((np.arange(5000) % 256, {"some": "words"}, list(range(300))), protocol=5)])


def test_contexts_without_callbacks_are_sent_bare(monkeypatch: pytest.MonkeyPatch):
    """What scikit-learn sends along for callbacks is the same in each run, where there are none."""
    contexts, parcels = [], []

    def delayed(function: Any) -> Callable[..., Any]:
        def note(*args: Any, **kwargs: Any) -> Any:
            contexts.append(kwargs["callback_ctx"])
            parcels.append(packer.pack((print, args, kwargs)))
            return scikit_learns(function)(*args, **kwargs)

        return note

    scikit_learns = _search.delayed
    monkeypatch.setattr(_search, "delayed", delayed)
    packer = Packer(Contents(), identify=True)
    prints = Fingerprints(lambda modules: repr(sorted(modules)).encode())
    points = np.arange(80.0).reshape(20, 4)
    found = []
    for _ in range(2):
        parcels.clear()
        _search.GridSearchCV(SVC(), {"C": [1, 2, 3]}, cv=2).fit(points, np.arange(20) % 2)
        found.append([prints.of(parcel) for parcel in parcels])
        # No part of these is taken apart in Python, and they do not depend on our own code.
        identities = [parcel.pickled.identity for parcel in parcels]
        assert {(each.digest, each.doubt, "tritoncluster" in each.modules) for each in identities if each} == {
            (None, "", False)
        }
    assert found[0] == found[1]
    assert len(set(found[0])) == 6

    context = contexts[-1]
    make, arguments, state = reduce_context(context)
    bare = make(*arguments)
    vars(bare).update(state)
    assert vars(bare).keys() == vars(context).keys()
    assert (bare.task_name, bare.task_id, bare.parent) == (context.task_name, context.task_id, context.parent)
    assert not bare._children_map


def test_large_data_along_with_a_function_is_not_taken_apart_again_and_again():
    packer = Packer(Contents(), identify=True)
    prints = Fingerprints(lambda _modules: b"")
    data = [[number] for number in range(30_000)]
    for _ in range(5):
        with pytest.raises(DoubtError):
            prints.of(packer.pack((print, (lambda: 1, data), {})))
    assert packer._too_many == 3


def test_words_in_a_set_are_found_again_in_a_pipeline():
    def pipeline(words: set[str]) -> Any:
        return make_pipeline(CountVectorizer(stop_words=words), SVC())

    assert fingerprint(abs, pipeline({"a", "b", "c"})) == fingerprint(abs, pipeline({"c", "a", "b"}))
    assert fingerprint(abs, pipeline({"a", "b", "c"})) != fingerprint(abs, pipeline({"a", "b", "d"}))


# What calls depend on besides.


def unit(name: str, content: str) -> Unit:
    return Unit(name, {name: content.encode()}, f"/somewhere/{name}")


def test_files_of_a_script_are_in_all_digests():
    found = set()
    for content in ("a = 1", "a = 2"):
        surroundings = Surroundings(own_code=False)
        bare = surroundings.digest(frozenset())
        surroundings.add([unit("helpers.py", content), unit("data.csv", "1,2")])
        assert surroundings.digest(frozenset({"helpers", "numpy", "__main__"})) == surroundings.digest(frozenset())
        found |= {bare, surroundings.digest(frozenset())}
    assert len(found) == 3


def test_what_differs_is_named():
    earlier, later = Surroundings(own_code=False), Surroundings(own_code=False)
    earlier.add([unit("helpers.py", "a = 1"), unit("data.csv", "1")])
    later.add([unit("helpers.py", "a = 2"), unit("data.csv", "1")])
    assert later.changed([earlier.content]) == ["helpers.py"]
    assert later.changed([earlier.content, later.content]) == []
    assert later.changed([]) == []


def test_code_elsewhere_is_digested_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "first_of_mine.py").write_text("import second_of_mine\n")
    (tmp_path / "second_of_mine.py").write_text("a = 1\n")
    digest = "from tritoncluster.journal.surroundings import Surroundings; import first_of_mine\n"
    digest += "print(Surroundings(own_code=False).digest(frozenset({'first_of_mine'})).hex())"

    def told() -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        arguments = [sys.executable, "-c", textwrap.dedent(digest)]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    before = told()
    assert told() == before
    (tmp_path / "second_of_mine.py").write_text("a = 2\n")
    assert told() != before
    with pytest.raises(UnknownCodeError, match="nowhere_at_all"):
        Surroundings(own_code=False).digest(frozenset({"nowhere_at_all"}))


def test_own_code_is_in_the_digests_of_calls_that_name_it():
    surroundings = Surroundings(own_code=False)
    assert surroundings.digest(frozenset({"tritoncluster"})) != surroundings.digest(frozenset({"numpy"}))
    assert fingerprint(partial(print, 1), 2) != fingerprint(partial(print, 2), 2)
