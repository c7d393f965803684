"""Fresh clones, as those have who see the project for the first time."""

import os
import signal
import subprocess
from pathlib import Path

import modules  # noqa: F401  # what is in ansible/ can be imported then
import pytest
from compose_project import embedded, project  # noqa: F401  # fixtures
from containers import engine, images, layouts  # noqa: F401  # fixtures
from hypothesis import HealthCheck, settings

# Tests interrupt what they start, which would ignore that as nohup and a shell's & let us ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long something takes is no matter of tests: these machines do other things, too. Where a change is checked,
# examples are the same each time, so that what fails is the change's; wherever else tests run, they are random.
settings.register_profile(
    "tests", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

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
