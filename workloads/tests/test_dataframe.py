"""Dask's data frames on the cluster: what they give is what pandas gives."""

from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client

# Dask 2026.8 calls what pandas 3.1 is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"),
    pytest.mark.usefixtures("client"),
]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A column of each kind, with what is missing in them."""
    random, rows = np.random.default_rng(7), 2000
    numbers = random.normal(size=rows)
    numbers[::97] = np.nan
    words = random.choice(["", "pi", "käse", "ein Satz"], rows).astype(object)
    words[::89] = None
    return pd.DataFrame(
        {
            "key": random.integers(0, 12, rows),
            "number": numbers,
            "word": pd.array(words, dtype="string"),
            "flag": random.random(rows) < 0.5,
            "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 10**6, rows), unit="s"),
            "kind": pd.Categorical(random.choice(["a", "b"], rows)),
        }
    )


def sorted_rows(frame: pd.DataFrame) -> list[str]:
    return sorted(str(row) for row in frame.itertuples(index=False))


def test_parquet_written_by_workers_is_read_by_workers_and_by_pandas(frame: pd.DataFrame, tmp_path: Path) -> None:
    dd.from_pandas(frame, npartitions=4).to_parquet(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 4
    for back in (dd.read_parquet(tmp_path).compute(), pd.read_parquet(tmp_path)):
        assert sorted_rows(back[frame.columns]) == sorted_rows(frame)


def test_columns_and_rows_are_chosen_where_the_file_is(frame: pd.DataFrame, tmp_path: Path) -> None:
    dd.from_pandas(frame, npartitions=3).to_parquet(tmp_path, partition_on="key")
    found = dd.read_parquet(tmp_path, columns=["number"], filters=[("key", "==", 5)]).compute()
    assert sorted(found["number"].dropna()) == sorted(frame.number[frame.key == 5].dropna())


@pytest.mark.parametrize("how", ["sum", "mean", "count", "max"])
def test_groupby(frame: pd.DataFrame, how: str) -> None:
    found = dd.from_pandas(frame, npartitions=5).groupby("key").number.agg(how).compute().sort_index()
    pd.testing.assert_series_equal(found, frame.groupby("key").number.agg(how))


def test_shuffle_puts_equal_keys_into_one_partition(client: Client, frame: pd.DataFrame) -> None:
    shuffled = dd.from_pandas(frame, npartitions=5).shuffle("key", npartitions=3, shuffle_method="p2p")
    parts = client.gather(client.compute(shuffled.to_delayed()))
    assert len(parts) == 3
    assert sorted_rows(pd.concat(parts)) == sorted_rows(frame)
    keys = [set(part.key) for part in parts]
    assert sum(map(len, keys)) == frame.key.nunique()
    for part in parts:
        assert list(part.columns) == list(frame.columns)


def test_merge(frame: pd.DataFrame) -> None:
    other = pd.DataFrame({"key": range(6), "name": [f"n{key}" for key in range(6)]})
    found = dd.from_pandas(frame, npartitions=4).merge(dd.from_pandas(other, npartitions=2), on="key").compute()
    assert sorted_rows(found) == sorted_rows(frame.merge(other, on="key"))
