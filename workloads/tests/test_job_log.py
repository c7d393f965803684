"""What a job prints while the disk of its log is full; /dev/full is one that always is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND

from tritoncluster.cli.job_log import MOST
from tritoncluster.service.model import MARK

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="of Linux")
#: Prints, has room from some moment on, and prints again.
PRINTS = """
import os, sys
from tritoncluster.cli.job_log import outlive_full_disk
outlive_full_disk()
print("begin")
print("much " * int(sys.argv[2]), end="")
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), 1)
print("end")
"""


@pytest.mark.parametrize("much", [0, MOST])
def test_what_finds_no_room_is_written_when_there_is(tmp_path: Path, much: int) -> None:
    file = tmp_path / "log"
    with FULL.open("w") as full:
        subprocess.run([sys.executable, "-c", PRINTS, file, str(much)], stdout=full, check=True)
    found = file.read_text()
    assert found.startswith("begin\n")
    # All of it, but for what is more than is held.
    assert found.endswith("end\n")
    assert len(found) == (MOST if much else len("begin\n")) + len("end\n")


def test_a_job_outlives_the_room_for_its_log() -> None:
    def status(**environment: str) -> int:
        with FULL.open("w") as full:
            return subprocess.run(
                [*COMMAND, "--help"], stdout=full, stderr=full, env=os.environ | environment, check=False
            ).returncode

    assert status(**{MARK: "any/aaaaa"}) == 0
    # Anybody else hears of it.
    assert status() != 0
