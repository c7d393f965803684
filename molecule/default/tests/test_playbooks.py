"""The playbooks that people use a cluster with, run as they run them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ADDRESSES, HOSTS, PKI, PROJECT, WORKERS, alone, containers, on

SCRIPT = """
import sys
from distributed import Client
import helpers
print("sum", sum(Client().gather(Client.current().map(helpers.square, range(100)))), *sys.argv[1:])
"""


def started(playbook, *arguments):
    """Start a playbook on the room."""
    return subprocess.Popen(
        [Path(sys.executable).parent / "ansible-playbook", "-i", PROJECT / "molecule/default/inventory/hosts.yml",
         f"ansible/{playbook}.yml", *(f"-e{each}" for each in arguments)],
        cwd=PROJECT, env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def play(playbook, *arguments, status=0):
    """Run a playbook on the room, and give what it printed."""
    run = started(playbook, *arguments)
    printed, said = run.communicate()
    assert run.returncode == status, printed[-4000:] + said
    return printed


@pytest.mark.slow
def test_run_brings_a_job_s_results(tmp_path):
    play("run", "job=forest", "options='--trees 50 --seed 3'", f"results={tmp_path}")
    (folder,) = tmp_path.iterdir()
    assert {file.name for file in folder.iterdir()} >= {"report.html", "result.json", "log.txt"}
    found = json.loads((folder / "result.json").read_text())
    assert {worker["name"] for worker in found["cluster"]["workers"]} == set(WORKERS)
    assert found["result"] == alone("forest", "--trees", "50", "--seed", "3")["result"]


def test_run_takes_a_script_and_the_files_beside_it(tmp_path):
    (tmp_path / "my.py").write_text(SCRIPT)
    (tmp_path / "helpers.py").write_text("def square(x):\n    return x * x\n")
    relative = os.path.relpath(tmp_path / "my.py", PROJECT)
    assert "sum 328350 one two" in play("run", f"script={relative}", "options='one two'")


def test_a_job_that_is_left_alone_is_brought_later_and_kept_in_a_backup(tmp_path):
    said = play("run", "scale=asian-option", "options='--paths 20000 --steps 1,3'", "detach=true")
    (job,) = set(re.findall(r"-e fetch=([a-z2-9]{5})", said))
    play("run", f"fetch={job}", f"results={tmp_path / 'results'}")
    found = json.loads((tmp_path / "results" / job / "result.json").read_text())
    assert [len(step["machines"]) for step in found["result"]["steps"]] == [1, 3]
    # The desktop's, by the inventory.
    assert [each["watts"] for each in found["result"]["machines"] if each["watts"]] == [120]
    home = "/var/lib/tritoncluster/notebooks"
    on("desktop").check_output(f"echo saved | install -o tritoncluster -m 0600 /dev/stdin {home}/teacher/notes")
    play("backup", f"backups={tmp_path / 'backups'}")
    notebooks, jobs = sorted((tmp_path / "backups").iterdir(), reverse=True)
    workload = "cd /opt/tritoncluster/workload && docker compose run --rm --no-TTY workload"
    on("desktop").check_output(f"{workload} jobs remove {job}")
    play("backup", f"restore={jobs}")
    assert job in on("desktop").check_output(f"{workload} jobs list")
    on("desktop").check_output(f"rm -r {home}/guest && echo newer | tee {home}/teacher/notes")
    said = play("backup", f"restore={notebooks}")
    assert "client, guest, teacher" in said
    notes = on("desktop").file(f"{home}/teacher/notes")
    assert (notes.content_string, notes.user, notes.mode) == ("saved\n", "tritoncluster", 0o600)
    assert on("desktop").file(f"{home}-replaced/teacher/notes").content_string == "newer\n"
    assert on("desktop").file(f"{home}/guest/first-notebook.ipynb").exists
    assert all(containers(on("desktop"))[f"notebook-{name}"]["State"]["Running"] for name in ("teacher", "guest"))


MOVE = """
- hosts: laptop
  become: true
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: dask_scheduler, tasks_from: move}
      vars: {dask_scheduler_stores: [kept], dask_scheduler_host: desktop}
"""


def test_what_moves_with_a_scheduler_is_not_removed_where_it_could_not_be_packed(tmp_path):
    """Of a disk without room, or with a bad block, a part would be all that is left."""
    (tmp_path / "move.yml").write_text(MOVE)
    move = os.path.relpath(tmp_path / "move", PROJECT / "ansible")
    here, there = on("laptop"), on("desktop")
    kept = "/var/lib/tritoncluster/kept"
    here.check_output(f"mkdir -p {kept} && head -c 1000000 /dev/urandom | tee {kept}/result | sha256sum")
    content = here.file(f"{kept}/result").sha256sum
    here.check_output("mount -t tmpfs -o size=256k,mode=1777 none /var/tmp")
    try:
        assert re.search("tar: .*(Cannot write|Wrote only)", play(move, status=2))
        assert here.check_output("ls /var/tmp") == ""
    finally:
        here.check_output("umount /var/tmp")
    assert here.file(f"{kept}/result").sha256sum == content
    assert not there.file(kept).exists
    play(move)
    assert not here.file(kept).exists
    assert there.file(f"{kept}/result").sha256sum == content
    there.check_output(f"rm -r {kept}")


def test_what_is_no_backup_is_not_restored(tmp_path):
    (tmp_path / "text").write_text("no backup")
    for file in (tmp_path / "text", tmp_path / "nothing"):
        assert "say what to restore: -e restore=FILE" in play("backup", f"restore={file}", status=2)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["job=forest", "options='--trees many'"], "'many' is not a valid integer"),
        (["script=/nowhere/my.py"], "say what to run: -e job=forest"),
        ([], "say what to run: -e job=forest"),
        (["job=forest", "scale=forest"], "say what to run: -e job=forest"),
        (["scale=woods"], "there is no job 'woods'"),
        (["fetch=1"], "say what to run: -e job=forest"),
        (["fetch=zzzzz"], "there is no job zzzzz"),
    ],
)
def test_run_refuses_in_one_line(wanted, said):
    assert said in play("run", *wanted, status=2)


def test_a_client_s_bundle_uses_the_cluster(tmp_path):
    """In the node image, whose Python is the cluster's; the controller's need not be."""
    assert "person=nobody is not let in" in play("client", "person=nobody", status=2)
    said = play("client", "person=guest")
    bundle = PKI / "clients/guest"
    assert str(bundle) in said
    assert re.search(r"Its Python has to be 3\.\d+", said)
    assert (bundle / "tls.key").stat().st_mode & 0o777 == 0o600
    # Under a name of its own: of `local` other tests, which run meanwhile, want both platforms.
    tag = {**os.environ, "TAG": "rooms"}
    subprocess.run([PROJECT / "docker/bake", "node", "--load"], env=tag, check=True, capture_output=True)
    output = tmp_path / "out"
    output.mkdir()
    command = [
        "docker", "run", "--rm", "--network=host", f"--user={os.getuid()}:{os.getgid()}", f"--env=DASK_CONFIG={bundle}",
        f"--volume={bundle}:{bundle}:ro", f"--volume={output}:/work/results", "--env=DASK_TEMPORARY_DIRECTORY=/tmp",
        "tritoncluster/node:rooms", "tritoncluster", "run", "asian-option", "--paths", "20000", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    subprocess.run(["docker", "rmi", "tritoncluster/node:rooms"], check=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cluster"]["address"] == f"tls://{ADDRESSES['desktop']}:8786"
    assert found["result"] == alone("asian-option", "--paths", "20000")["result"]


@pytest.mark.slow
def test_a_host_that_freezes_in_the_middle_of_a_run_is_left_out(tmp_path):
    """As a Pi whose card hangs, or a laptop whose lid is closed: its connection stands, and nobody answers."""
    run = started("logs", f"logs_folder={tmp_path}")
    # Connected by then.
    assert any("TASK [Read them]" in line for line in run.stdout)
    subprocess.run(["docker", "pause", "tritoncluster-default-pi"], check=True, capture_output=True)
    try:
        printed, said = run.communicate(timeout=400)
    finally:
        run.kill()
        subprocess.run(["docker", "unpause", "tritoncluster-default-pi"], check=True, capture_output=True)
    assert run.returncode == 4, printed + said
    assert re.search(r"^pi +: .*unreachable=1", printed, re.MULTILINE), printed
    assert (tmp_path / "laptop/worker.log").exists()
    end = time.monotonic() + 200
    while containers(on("pi"))["worker"]["State"]["Health"]["Status"] != "healthy":
        assert time.monotonic() < end
        time.sleep(1)


@pytest.mark.slow
def test_logs_are_those_of_all_containers(tmp_path):
    play("logs", f"logs_folder={tmp_path}")
    for name in HOSTS:
        assert {file.stem for file in (tmp_path / name).iterdir()} == set(containers(on(name)))
    assert "Register worker" in (tmp_path / "desktop/scheduler.log").read_text()
    assert "Registered to" in (tmp_path / "pi/worker.log").read_text()
