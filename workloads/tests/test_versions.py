import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest
from distributed import Client
from worker_processes import pretend, wait_for, worker_process

from tritoncluster.cluster import connect
from tritoncluster.errors import ClusterUnusableError
from tritoncluster.versions import PACKAGES, Difference, compare, differences, installed, unmet

HERE = {"python": "3.11.7", **dict.fromkeys(PACKAGES, "1.0")}


def test_installed_has_python_and_every_package():
    assert set(installed()) == {"python", *PACKAGES}
    assert installed()["scikit-learn"] == version("scikit-learn")


def test_what_is_needed_is_there_in_a_version_that_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert unmet() == []
    with monkeypatch.context() as patched:
        pretend(tmp_path, joblib="1.2.0", dask="2030.1.0")
        patched.syspath_prepend(str(tmp_path))
        assert [line.partition(";")[0] for line in unmet()] == [
            "dask is 2030.1.0, not <2027,>=2026.1",
            "joblib is 1.2.0, not <2,>=1.5",
        ]
        with (
            pytest.raises(ClusterUnusableError, match="does not have what tritoncluster needs: dask is 2030"),
            connect(),
        ):
            pass


def test_same_versions_do_not_differ(client: Client):
    assert differences(client) == []


@pytest.mark.parametrize(
    ("package", "there", "expected"),
    [
        ("python", "3.11.2", []),
        ("python", "3.13.1", [Difference("python", "3.11.7", "3.13.1", ("scheduler",))]),
        ("numpy", "1.0.1", [Difference("numpy", "1.0", "1.0.1", ("scheduler",))]),
    ],
)
def test_python_may_be_another_release_and_packages_may_not(package: str, there: str, expected: list[Difference]):
    assert compare(HERE, {"scheduler": {**HERE, package: there}, "pi": HERE}) == expected


def test_missing_package_differs():
    without = {package: number for package, number in HERE.items() if package != "joblib"}
    assert compare(HERE, {"pi": without}) == [Difference("joblib", "1.0", "not installed", ("pi",))]
    assert compare(without, {"pi": HERE}) == [Difference("joblib", "not installed", "1.0", ("pi",))]


def test_names_both_sides_and_the_nodes():
    others = {f"pi-{number}": {**HERE, "scipy": "2.0"} for number in range(5)}
    (difference,) = compare(HERE, others)
    assert str(difference) == "scipy is 1.0 here, 2.0 on pi-0, pi-1, pi-2 and 2 more"


def test_worker_with_other_versions_and_without_our_package(tmp_path: Path):
    environment = pretend(tmp_path, scikit_learn="0.1", tritoncluster="99.0")
    with connect(workers=1) as client, worker_process(client, tmp_path, "odd", environment=environment):
        wait_for(client, 2)
        assert set(differences(client)) == {
            Difference("scikit-learn", version("scikit-learn"), "0.1", ("odd",)),
            Difference("tritoncluster", version("tritoncluster"), "99.0", ("odd",)),
        }


def test_hanging_worker_is_left_out():
    with connect(workers=2) as client:
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGSTOP)
        try:
            assert differences(client, seconds=1) == []
        finally:
            os.kill(pid, signal.SIGCONT)
