import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

LOCK = (ROOT / "uv.lock").read_text()
OTHER_NUMPY = """
[[package]]
name = "numpy"
version = "{version}"
source = {{ registry = "https://pypi.org/simple" }}
resolution-markers = ["python_full_version < '3.12'"]
"""


def check(lock: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"{ROOT}/scripts/check_lock.py", f"{lock}"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def version_of(name: str) -> str:
    return LOCK.split(f'name = "{name}"\nversion = "', 1)[1].split('"', 1)[0]


def test_accepts_the_projects_own() -> None:
    assert check(ROOT / "uv.lock").returncode == 0


@pytest.mark.parametrize("version", ["1.26.0", version_of("numpy")])
def test_refuses_a_package_twice(tmp_path: Path, version: str) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text(LOCK + OTHER_NUMPY.format(version=version))
    checked = check(lock)
    assert checked.returncode == 1
    (line,) = checked.stderr.splitlines()
    assert "numpy is locked 2 times" in line
    assert version in line
    assert "python_full_version < '3.12'" in line


@pytest.mark.parametrize(("tag", "missing"), [("cp312-cp312", "CPython 3.12"), ("aarch64", "aarch64")])
def test_refuses_a_runtime_package_that_some_hosts_would_compile(tmp_path: Path, tag: str, missing: str) -> None:
    lines = LOCK.splitlines()
    kept = [line for line in lines if not ("/scikit_learn-" in line and tag in line)]
    assert len(kept) < len(lines)
    lock = tmp_path / "uv.lock"
    lock.write_text("\n".join(kept))
    checked = check(lock)
    assert checked.returncode == 1
    assert all("scikit-learn has no wheel" in line and missing in line for line in checked.stderr.splitlines())
