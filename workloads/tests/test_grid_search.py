import json
from collections import Counter
from pathlib import Path

import pytest
from distributed import Client

from tritoncluster.errors import InputError
from tritoncluster.jobs.grid_file import read_grid
from tritoncluster.jobs.grid_search import GridSearch, GridSearchResult

SAMPLES = 600


@pytest.fixture(scope="module")
def result(client: Client) -> GridSearchResult:
    return GridSearch(samples=SAMPLES).run(client)


@pytest.fixture(scope="module")
def reference():
    """scikit-learn's own search on this machine."""
    job = GridSearch(samples=SAMPLES)
    return job.estimator().set_params(refit=True).fit(*job.data)


def test_scores_are_scikit_learns(result: GridSearchResult, reference):
    assert len(result.cv_results) == 48
    for column in ("split0_test_score", "split1_test_score", "split2_test_score", "mean_test_score", "rank_test_score"):
        assert result.cv_results[column].tolist() == reference.cv_results_[column].tolist()
    assert result.best["params"] == reference.best_params_


def test_final_fit_is_scikit_learns(result: GridSearchResult, reference):
    features, classes = GridSearch(samples=SAMPLES).data
    assert result.score == reference.score(features, classes)
    assert result.predict_head == reference.predict(features)[:5].tolist()


def test_each_worker_gets_the_data_once(client: Client, tmp_path: Path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("C: [0.01, 0.02, 0.03, 0.04]")

    def received(dask_worker) -> list[str]:
        return [key for transfer in dask_worker.transfer_incoming_log for key in transfer["keys"]]

    def held(dask_worker) -> int:
        return max([state.nbytes or 0 for state in dask_worker.state.tasks.values()], default=0)

    before = client.run(received)
    sizes: list[dict[str, int]] = []
    job = GridSearch(samples=5000, cv=2, grid=str(grid))

    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "fits" and done in (2, 4, 6):
            sizes.append(client.run(held))

    job.run(client, progress)
    # The samples are there, whole, while fits run ...
    largest = {address: max(each[address] for each in sizes) for address in sizes[0]}
    assert all(size >= job.data[0].nbytes for size in largest.values())
    # ... and moved to each at most once: a task of ours made them on the first, and the others asked there.
    for address, keys in client.run(received).items():
        copies = Counter(key for key in keys[len(before[address]) :] if str(key).startswith("~argument-"))
        assert all(number == 1 for number in copies.values())


@pytest.mark.poster
def test_posters_figures(client: Client):
    result = GridSearch().run(client)
    assert result.score == 0.87735
    assert result.predict_head == [0, 1, 0, 1, 1]
    first = result.cv_results.set_index(["param_C", "param_kernel", "param_shrinking"])["split0_test_score"]
    assert round(first[0.001, "rbf", True], 6) == 0.821509
    assert round(first[0.001, "poly", True], 6) == 0.796610
    assert result.best["params"] == {"C": 0.5, "kernel": "rbf", "shrinking": True}
    assert result.best["mean_test_score"] == pytest.approx(0.852450, abs=5e-7)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grid.yaml", "C: [1e-3, 2]\nkernel: [linear, rbf]\nclass_weight: [null, balanced]\n"),
        ("grid.json", '{"C": [1e-3, 2], "kernel": ["linear", "rbf"], "class_weight": [null, "balanced"]}'),
    ],
)
def test_grid_file(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    assert read_grid(path) == {"C": [0.001, 2], "kernel": ["linear", "rbf"], "class_weight": [None, "balanced"]}


def test_search_of_a_file(client: Client, tmp_path: Path):
    path = tmp_path / "grid.yaml"
    path.write_text("C: [1]\ngamma: [scale, 0.1]\n")
    result = GridSearch(samples=200, cv=2, grid=str(path)).run(client)
    assert len(result.cv_results) == 2
    json.dumps(result.to_json()["best_params"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C: [1, -1]", "The 'C' parameter of SVC must be a float in the range (0.0, inf]. Got -1 instead"),
        ("kernel: [rbf, rfb]", "The 'kernel' parameter of SVC must be"),
        ("gama: [1]", "SVC has no parameter 'gama'; it has C, "),
        ("probability: [true]", "leave out 'probability'"),
        ("C: 1", "'C' needs a list of values, as in 'C: [1]'"),
        ("C: []", "'C' needs a list of values"),
        ("", "names no parameters"),
        ("- 1", "names no parameters"),
        ("C: [1", "is neither YAML nor JSON"),
    ],
)
def test_bad_grid(tmp_path: Path, text: str, message: str):
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        GridSearch(grid=str(path)).check()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_grid(tmp_path: Path):
    with pytest.raises(InputError, match="can't be read: No such file or directory"):
        GridSearch(grid=str(tmp_path / "none.yaml")).check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"samples": 0}, "--samples must be at least 10, not 0"),
        ({"cv": 1}, "--cv must be at least 2, not 1"),
        ({"samples": 20, "cv": 15}, "--cv must be at most 10, the samples in the smaller class, not 15"),
    ],
)
def test_bad_parameters(parameters: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        GridSearch(**parameters).check()
