"""What a worker imports before it takes work, and what only with a task that wants it."""

import sys
from pathlib import Path
from typing import Any

from calls import IMPORTS
from distributed import Client
from remote import remote
from worker_processes import PATIENCE


def imported() -> list[bool]:
    return [name in sys.modules for name in ("sklearn.ensemble", "sklearn.svm", "pandas", "pyarrow")]


def fit_a_data_frame() -> dict[str, Any]:
    import pandas as pd
    from sklearn.impute import SimpleImputer

    frame = pd.DataFrame({"width": [1.0, None, 3.0], "length": [4.0, 5.0, 6.0]})
    filled = SimpleImputer().set_output(transform="pandas").fit(frame).transform(frame)
    return {"is a frame": isinstance(filled, pd.DataFrame), **filled.to_dict("list")}


def test_scikit_learn_is_there_and_pandas_comes_with_the_task_that_wants_it(tmp_path: Path):
    with (
        remote(tmp_path, workers=1, environment=IMPORTS) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        assert client.submit(imported, pure=False).result(PATIENCE) == [True, True, False, False]
        assert client.submit(fit_a_data_frame).result(PATIENCE) == {
            "is a frame": True,
            "width": [1.0, 2.0, 3.0],
            "length": [4.0, 5.0, 6.0],
        }
