"""A job that goes on until workers have left."""

import json
import subprocess
from contextlib import contextmanager

from room import FILES, PROJECT, on, until


def processing():
    """Give how many tasks run."""
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8788/json/counts.json').read().decode())"
    return json.loads(on("desktop").check_output("python3 -c %s", read)).get("processing", 0)


@contextmanager
def squares(leave, there):
    """Have the job of squares.py in its middle; it ends with the block, and what it found comes into a dictionary."""
    scripts = "tritoncluster-lifecycle-desktop:/var/lib/tritoncluster/scripts/"
    subprocess.run(["docker", "cp", "--quiet", PROJECT / "molecule/lifecycle/squares.py", scripts], check=True)
    run = "sudo docker compose run --rm --no-TTY workload submit squares.py"
    process = subprocess.Popen(
        ["ssh", "-F", FILES / "ssh/config", "desktop",
         f"cd /opt/tritoncluster/workload && {run} {','.join(leave)} {','.join(there)}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def is_in_the_middle():
        assert process.poll() is None, process.stderr.read()
        return processing() >= 3

    until(is_in_the_middle)
    found = {}
    yield found
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found |= json.loads(printed.splitlines()[-1])
    assert found["exact"]
    # What ran on the workers came to its end there, and what they had was moved: nothing was computed again.
    assert found["twice"] == []
    assert found["lost"] == []
    assert found["kept"]
