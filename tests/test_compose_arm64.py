"""The arm64 image, emulated, against the amd64 image: the same cluster, and the same numbers to the last bit."""

import json
import subprocess
from typing import Any

import pytest
from compose_project import Project, finish
from containers import ARCHITECTURES

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(2400)]

NODE = "tritoncluster/node:local"
#: All on one embedded cluster: starting one takes an emulated machine long.
PROGRAM = """
import hashlib, json, platform
from tritoncluster import doctor
from tritoncluster.cluster import connect
from tritoncluster.jobs.asian_option import AsianOption
from tritoncluster.jobs.forest import Forest

# An emulated machine is slower than any that the doctor waits for.
doctor.SECONDS = 200.0
if __name__ == "__main__":
    with connect(workers=1, timeout="120 s", must_be_usable=False) as client:
        findings = [(found.ok, found.check, found.detail) for found in doctor.examine(client)]
        forest = Forest(trees=20).run(client)
        option = AsianOption(paths=4096).run(client)
        print(json.dumps({
            "machine": platform.machine(),
            "findings": findings,
            "forest": forest.to_json(),
            "votes": hashlib.sha256(forest.votes.tobytes()).hexdigest(),
            "option": option.to_json(),
        }))
"""


@pytest.fixture(scope="module")
def computed(images: dict[str, str]) -> dict[str, Any]:
    """Run the same on both, at the same time."""
    running = {}
    for architecture in ARCHITECTURES:
        where = [f"--platform=linux/{architecture}", "--env=QEMU_CPU=cortex-a72", "--network=none"]
        hardened = ["--rm", "--init", "--read-only", "--cap-drop=ALL", "--tmpfs=/tmp", "--tmpfs=/work:mode=1777"]
        write = f"cat >/tmp/program.py <<'END'\n{PROGRAM}\nEND\nexec python3 /tmp/program.py"
        command = ["docker", "run", *where, *hardened, NODE, "sh", "-c", write]
        running[architecture] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = {architecture: finish(process, 600) for architecture, process in running.items()}
    assert {each.returncode for each in done.values()} == {0}, [each.stderr for each in done.values()]
    return {architecture: json.loads(each.stdout.splitlines()[-1]) for architecture, each in done.items()}


def test_they_are_what_they_say(computed: dict[str, Any]) -> None:
    assert [computed[architecture]["machine"] for architecture in ARCHITECTURES] == ["x86_64", "aarch64"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_doctor_finds_no_fault_with_its_arithmetic(computed: dict[str, Any], architecture: str) -> None:
    findings = computed[architecture]["findings"]
    assert "arithmetic" in [check for _, check, _ in findings]
    # This container has no memory limit, and no disk to spill to.
    assert [found for found in findings if not found[0] and found[1] not in ("memory", "spilling", "processors")] == []


@pytest.mark.parametrize("what", ["forest", "votes", "option"])
def test_equal_to_the_last_bit(computed: dict[str, Any], what: str) -> None:
    assert computed["arm64"][what] == computed["amd64"][what]


def test_the_gateways_and_workers_of_both_are_in_one_image(project: Project, images: dict[str, str]) -> None:
    (scheduler,) = project.inspect("scheduler")
    assert scheduler["Config"]["Image"] == images["node"]
