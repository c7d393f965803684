"""A job that goes on while something changes, and one that is left alone until it is enough."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager

from room import FILES, PROJECT, on, play, root, until

#: A program that asks the scheduler over its socket.
ASK = """
import http.client, socket
connection = http.client.HTTPConnection("scheduler")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/var/lib/tritoncluster/scheduler/http")
connection.request("GET", "/json/counts.json")
print(connection.getresponse().read().decode())
"""


def processing():
    """Give how many tasks run."""
    return json.loads(on("desktop").check_output("python3 -c %s", ASK)).get("processing", 0)


@contextmanager
def squares(*leave):
    """Have the job of squares.py in its middle, and give what ends it and a dictionary for what it found.

    It ends with the block if it was not ended there.
    """
    scripts = "/var/lib/tritoncluster/scripts"
    root("desktop", f"rm -f {scripts}/enough")
    script = PROJECT / "molecule/lifecycle/squares.py"
    subprocess.run(["docker", "cp", "--quiet", script, f"tritoncluster-lifecycle-desktop:{scripts}"], check=True)
    run = "sudo docker compose run --rm --no-TTY workload submit squares.py"
    process = subprocess.Popen(
        ["ssh", "-F", FILES / "ssh/config", "desktop", f"cd /opt/tritoncluster/workload && {run} {' '.join(leave)}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def is_in_the_middle():
        assert process.poll() is None, process.stderr.read()
        return processing() >= 3

    def end():
        root("desktop", f"touch {scripts}/enough")

    until(is_in_the_middle)
    found = {}
    try:
        yield end, found
    finally:
        end()
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found |= json.loads(printed.splitlines()[-1])
    assert found["exact"]
    assert len(found["left"]) == len(leave), found["left"]
    # What ran on the workers came to its end there, and what they had was moved: nothing was computed again.
    assert found["twice"] == []
    assert found["lost"] == []
    assert found["kept"]


#: Goes on until a file beside it says that it is enough.
STEADY = """
import pathlib, time
from distributed import Client
from tritoncluster.balance import balanced_map

def square(number):
    time.sleep(0.2)
    return number * number

count = total = 0
with Client() as client:
    while not pathlib.Path("enough").exists():
        total += sum(balanced_map(square, range(count, count + 40), client))
        count += 40
print("squares", count, total, flush=True)
"""
WAITS = "Wait for its end"


def steady():
    """Write the job that goes on, and give the options that submit it."""
    folder = FILES / "steady"
    folder.mkdir(exist_ok=True)
    (folder / "steady.py").write_text(STEADY)
    return ["-e", f"script={folder / 'steady.py'}"]


def accepted(printed):
    """Give the ID of a job that run.yml left to the jobs service, if it has said that by now."""
    found = re.search(r"-e fetch=([a-z2-9]{5})", printed)
    return found[1] if found else None


def brought(job, hosts):
    """Let a job that goes on come to its end, and bring it: all of its squares are right."""
    root("desktop", f"touch /var/lib/tritoncluster/jobs/jobs/{job}/files/enough")
    play("ansible/run.yml", hosts, "-e", f"fetch={job}", "-e", f"results={FILES}/results")
    log = (FILES / "results" / job / "log.txt").read_text()
    count, total = map(int, re.search(r"^squares (\d+) (\d+)$", log, re.MULTILINE).groups())
    assert count > 0, log
    assert total == sum(number * number for number in range(count)), log
    shutil.rmtree(FILES / "results")
    return log
