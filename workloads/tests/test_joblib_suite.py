"""joblib's own tests of its Dask backend, with ours in its place."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

#: Tests that ask for something that the balanced backend has not, by purpose, and what that is.
NOT_APPLYING = {
    "test_dask_backend_uses_autobatching": "batches that grow by joblib's rule; here the queue makes the chunks",
    "test_nested_parallelism_with_dask[parallel_config]": "nested calls as tasks; here they stay in their thread",
    "test_nested_parallelism_with_dask[parallel_backend]": "the same",
    "test_correct_nested_backend": "the same",
    "test_nested_backend_context_manager_implicit_n_jobs": "joblib's class of the backend",
    "test_dask_funcname[True]": "joblib's names of tasks",
    "test_dask_funcname[False]": "the same",
    "test_no_undesired_distributed_cache_hit": "joblib's own rule for what it sends by scatter()",
    "test_auto_scatter": "the same",
    "test_manual_scatter": "the option `scatter`; large arguments are found without it",
    "test_dask_backend_keywords": "the option `workers`; the queue gives work to all",
    "test_wait_for_workers_timeout": "joblib's words for a cluster without workers, and its rule for a limit of 0 s",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_pass_that_apply(tmp_path: Path):
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "as_dask", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command += ["--pyargs", "joblib.test.test_dask", "--tb", "short", "--junitxml", str(report)]
    # Their settings are not ours: no pyproject.toml is above this folder.
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Their clusters are many.
    forked = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
    environment = {**os.environ, **forked, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), run.stdout + run.stderr
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - written by our own pytest
    outcome = {case.get("name"): {child.tag for child in case} - {"system-out", "system-err"} for case in cases}
    failed = {name for name, tags in outcome.items() if tags}
    assert failed == NOT_APPLYING.keys(), run.stdout
    assert len(outcome) - len(failed) >= 24, "joblib has fewer tests of its backend than when this was written"
