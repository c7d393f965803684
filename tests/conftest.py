"""Fresh clones, as those have who see the project for the first time."""

import os
import subprocess
from pathlib import Path

import pytest
from compose_project import embedded, project  # noqa: F401  # fixtures
from containers import engine, images, layouts  # noqa: F401  # fixtures

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is committed."""
    folder = tmp_path / "tritoncluster"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a shell: not of a `make` around the tests, nor of an activated .venv."""
    of_make = {name for name in os.environ if name.startswith("MAKE")} | {"MFLAGS", "ARGS"}
    return {name: value for name, value in os.environ.items() if name not in of_make | {"VIRTUAL_ENV"}}
