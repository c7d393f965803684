"""A Raspberry Pi from a blank card on: what it read, what was mended, and what runs there."""

import json
import platform
import re
import subprocess
import sys
import time

from conftest import ADDRESSES, CMDLINE, FILES, MENDED, PROJECT, ansible, job, on, starts

MACHINE = PROJECT / "molecule/raspberry-pi/machine"
#: Prints which worker the pi has, and how many tasks it has in hand; nothing where it has none.
WORKER = """
from distributed import Client
with Client("tls://%s:8786") as client:
    print(*client.run_on_scheduler(lambda dask_scheduler: next(
        ([each.server_id, len(each.processing)] for each in dask_scheduler.workers.values() if each.name == "pi"), []
    )))
"""


def printed_by(script):
    """Run a script beside the scheduler, whose address it has in place of %s."""
    command = "docker exec tritoncluster-scheduler python3 -c %s"
    return on("desktop").check_output(command, script % ADDRESSES["desktop"])


def worker_of_the_pi():
    """Give the worker's name for itself, and how many tasks it has; nothing where there is none."""
    return printed_by(WORKER).split()


def switch_off():
    """Cut the machine's power."""
    subprocess.run([MACHINE, "off", FILES / "pi"], check=True)


def switch_on():
    """Give it power again."""
    network = ["docker", "network", "inspect", "--format", "{{.Id}}", "tritoncluster-raspberry-pi"]
    bridge = f"br-{subprocess.check_output(network, text=True)[:12]}"
    subprocess.run([MACHINE, "on", FILES / "pi", bridge], check=True)


def deploy():
    """Begin to deploy, with a change that replaces the workers."""
    return ansible("ansible-playbook", "site.yml", "-e", '{"dask_worker_environment": {"ROUND": "2"}}')


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(2)


def test_it_is_what_its_card_says():
    pi = on("pi")
    assert pi.file("/proc/device-tree/model").content_string.startswith("Raspberry Pi 4 Model B")
    assert pi.check_output("hostname") == "pi"
    assert pi.check_output("systemctl is-system-running") == "running", pi.check_output("systemctl --failed")
    assert pi.check_output("cloud-init status") == "status: done"
    # Nobody has a password, and none would be asked for.
    assert pi.check_output("passwd --status someone").split()[1] == "L"
    assert "passwordauthentication no" in pi.check_output("sshd -T")


def test_ssh_knew_it_from_the_beginning():
    known = FILES / "ssh/known_hosts"
    found = subprocess.check_output(["ssh-keygen", "-F", ADDRESSES["pi"], "-f", known], text=True)
    keys = [line.split()[1:3] for line in found.splitlines() if not line.startswith("#")]
    assert keys == [(FILES / "seeds/pi.key.pub").read_text().split()[:2]]


def test_it_was_restarted_once_to_limit_memory():
    assert starts() == [f"cgroup_disable=memory {CMDLINE}", MENDED]
    assert on("pi").file("/boot/firmware/cmdline.txt").content_string == f"{MENDED}\n"


def test_its_clock_is_right():
    # At each start it is a day behind.
    pi = on("pi")
    assert abs(int(pi.check_output("date +%s")) - time.time()) < 60
    assert pi.check_output("timedatectl show --property=NTPSynchronized --value") == "yes"


def test_its_journal_is_in_memory():
    assert on("pi").run("journalctl --header | grep --quiet /run/log/journal").rc == 0


def test_its_worker_runs_on_its_own_kernel():
    pi = on("pi")
    there = pi.check_output("uname --machine --kernel-release").split()
    assert pi.check_output("docker exec tritoncluster-worker uname --machine --kernel-release").split() == there
    assert "aarch64" in there
    assert platform.release() not in there
    state = pi.check_output("docker inspect --format '{{.State.Health.Status}}' tritoncluster-worker")
    assert state == "healthy", pi.run("docker logs --tail 40 tritoncluster-worker 2>&1").stdout


def test_what_takes_more_memory_than_the_worker_has_dies_alone():
    pi = on("pi")
    limit = int(pi.check_output("docker inspect --format '{{.HostConfig.Memory}}' tritoncluster-worker"))
    inside = "docker exec tritoncluster-worker"
    assert pi.check_output(f"{inside} cat /sys/fs/cgroup/memory.max") == str(limit)
    taking = f"{inside} python3 -c 'x = bytearray(b\"x\") * {limit + 2**20}'"
    assert pi.run(taking).rc == 137
    kills = re.search(r"^oom_kill (\d+)", pi.check_output(f"{inside} cat /sys/fs/cgroup/memory.events"), re.MULTILINE)
    assert int(kills[1]) > 0
    assert pi.check_output("hostname") == "pi"


def test_tasks_have_four_hundred_megabytes():
    """On the smallest Pi, beside system, engine and worker."""
    task = """
import json, sys
from distributed import Client

def take(size):
    held = b"x" * size
    meminfo = dict(line.split()[:2] for line in open("/proc/meminfo"))
    return len(held), int(meminfo["MemTotal:"]), int(meminfo["MemAvailable:"])

with Client("tls://%s:8786") as client:
    print(json.dumps([client.submit(take, size, workers="pi", pure=False).result(300) for size in (0, 400_000_000)]))
"""
    (_, total, before), (size, _, after) = json.loads(printed_by(task))
    print(f"kB of {total}: {before} are there before, {after} beside {size // 1000}")
    assert total < 2**20
    assert size == 400_000_000
    assert on("pi").check_output("docker inspect --format '{{.RestartCount}}' tritoncluster-worker") == "0"


def test_a_restarted_worker_is_healthy_and_has_what_jobs_need():
    pi, (before, _) = on("pi"), worker_of_the_pi()
    begin = time.monotonic()
    pi.check_output("docker restart --time 2 tritoncluster-worker")
    state = "docker inspect --format '{{.State.Health.Status}}' tritoncluster-worker"
    wait_for(lambda: pi.check_output(state) == "healthy", 300)
    print(f"healthy after {time.monotonic() - begin:.0f} s")
    task = """
import sys
from distributed import Client
with Client("tls://%s:8786") as client:
    print(client.submit(lambda: "sklearn.ensemble" in sys.modules, workers="pi", pure=False).result(300))
"""
    assert printed_by(task) == "True"
    assert worker_of_the_pi()[0] != before


def test_the_doctor_finds_nothing():
    command = f"tritoncluster --scheduler tls://{ADDRESSES['desktop']}:8786 doctor"
    for _ in range(3):  # as it says itself where an emulated processor was too slow for it
        done = on("desktop").run(f"docker exec tritoncluster-scheduler {command}")
        if done.rc == 0:
            break
    assert done.rc == 0, done.stdout + done.stderr


def test_a_power_cut_in_the_middle_of_a_job_costs_time_alone(tmp_path):
    words = ["asian-option", "--paths", "2000000", "--json", "--output"]
    run = job(*words, "results/cut")
    wait_for(lambda: worker_of_the_pi()[1:] > ["0"], 300)
    (before, _) = worker_of_the_pi()
    switch_off()
    switch_on()
    begin = time.monotonic()
    printed, said = run.communicate(timeout=800)
    assert run.returncode == 0, said
    wait_for(lambda: worker_of_the_pi()[:1] not in ([], [before]), 600)
    print(f"{time.monotonic() - begin:.0f} s from power to a worker")
    assert on("pi").check_output("systemctl is-system-running --wait") == "running"
    alone = [sys.executable, "-m", "tritoncluster", "run", *words, str(tmp_path / "alone")]
    found = json.loads(subprocess.run(alone, check=True, capture_output=True, text=True).stdout)
    assert json.loads(printed)["result"] == found["result"]


def test_a_power_cut_in_the_middle_of_a_deployment_is_made_good_by_the_next():
    run = deploy()
    # The pi's worker is being replaced then.
    assert any("PLAY [Replace workers" in line for line in run.stdout)
    assert any("TASK [service : start" in line for line in run.stdout)
    switch_off()
    printed = run.communicate(timeout=900)[0]
    switch_on()
    assert run.returncode != 0, printed
    assert re.search(r"^pi +: .*unreachable=1", printed, re.MULTILINE), printed
    wait_for(
        lambda: subprocess.run(["ssh", "-F", FILES / "ssh/config", "pi", "true"], check=False).returncode == 0, 600
    )
    again = deploy()
    printed = again.communicate(timeout=900)[0]
    assert again.returncode == 0, printed
    assert worker_of_the_pi()[1:] == ["0"]
    assert on("pi").check_output("docker exec tritoncluster-worker printenv ROUND") == "2"
