"""Settings as `-e` gives them, as text, and as a person's inventory has them."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from settings import GATEWAY, kinds, mebibytes, memory_beside_workers, problem, problems, words, worker_scratch

ROLES = ROOT / "ansible/roles"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("node_least_memory", "900000000"),
        ("node_least_memory", 0),
        ("dask_worker_cpus", "2.5"),
        ("dask_worker_cpus", 4),
        ("host_watts", 6.5),
        ("host_watts", "120"),
        ("dask_scheduler_anyway", "false"),
        ("dask_scheduler_anyway", "Yes"),
        ("raspberry_pi_restart", False),
        ("notebook", "true"),
        ("notebook_memory", "512m"),
        ("dask_worker_tags", ["gpu", "big"]),
        ("dask_worker_environment", {"A": "1"}),
        ("dask_worker_max_spill", 0),
        ("dask_worker_max_spill", "1.5g"),
        ("dask_scheduler_memory", "512MiB"),
        ("dask_worker_scratch", "/mnt/disk"),
        ("images_archive", ""),
    ],
)
def test_what_a_setting_may_be(setting, value):
    assert problem(setting, kinds()[setting], value) == ""


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("node_least_memory", "1g", "node_least_memory is '1g': set it to a whole number"),
        ("node_least_memory", "-1", "set it to a whole number"),
        ("dask_worker_processes", 2.5, "dask_worker_processes is 2.5: set it to a whole number"),
        ("dask_worker_processes", True, "dask_worker_processes is True: set it to a whole number"),
        ("dask_worker_cpus", "many", "dask_worker_cpus is 'many': set it to a number"),
        ("dask_worker_cpus", "nan", "set it to a number"),
        ("host_watts", "120 W", "host_watts is '120 W': set it to a number"),
        ("notebook", "teacher", "notebook is 'teacher': set it to true or false"),
        ("notebook_memory", "much", "notebook_memory is 'much': set it to an amount of memory"),
        ("dask_scheduler_anyway", "perhaps", "dask_scheduler_anyway is 'perhaps': set it to true or false"),
        (
            "dask_worker_tags",
            "gpu",
            """dask_worker_tags is 'gpu': set it to a list, as -e '{"dask_worker_tags": ["one", "two"]}'""",
        ),
        ("dask_worker_tags", None, "dask_worker_tags has no value: set it to a list"),
        ("dask_worker_tags", [["gpu"]], "set it to a list"),
        (
            "dask_worker_environment",
            "A=1",
            """set it to pairs, as -e '{"dask_worker_environment": {"NAME": "value"}}'""",
        ),
        ("dask_worker_max_spill", "2 gigabytes", "set it to an amount of memory, as 512m or 2g"),
        ("dask_scheduler_memory", None, "dask_scheduler_memory has no value: set it to an amount of memory"),
        ("dask_worker_scratch", "~/scratch", "set it to the whole path of a folder, as /mnt/disk"),
        ("node_address", ["192.168.1.5"], "node_address is ['192.168.1.5']: set it to a text"),
    ],
)
def test_what_it_may_not_be_is_one_line(setting, value, said):
    line = problem(setting, kinds()[setting], value)
    assert said in line
    assert "\n" not in line


def test_hosts_are_named_when_it_is_not_all_of_them():
    wrong, right = {"dask_worker_cpus": "x"}, {"dask_worker_cpus": 1}
    assert problems(["a", "b"], {"a": wrong, "b": right}) == ["a: dask_worker_cpus is 'x': set it to a number"]
    assert problems(["a", "b"], {"a": wrong, "b": wrong}) == ["inventory: dask_worker_cpus is 'x': set it to a number"]
    assert problems(["a", "b"], {"a": {}, "b": right}) == []


@given(st.integers(0, 10**6), st.sampled_from(["k", "m", "g", "t"]), st.sampled_from(["", "b", "B", "iB"]))
def test_amounts_of_memory_are_docker_s(number, unit, more):
    exact = number * {"k": 2**-10, "m": 1, "g": 2**10, "t": 2**20}[unit]
    assert exact <= mebibytes(f"{number}{unit}{more}") < exact + 1
    assert mebibytes(f"{number}{unit.upper()}") == mebibytes(f"{number}{unit}")


def test_amounts_of_memory_that_are_none():
    assert mebibytes(2**31) == 2048
    assert [mebibytes(word) for word in ("", "g", "-1g", "1x", "1 g g", "half", None)] == [None] * 7


@pytest.mark.parametrize(
    ("folder", "ours"),
    [
        ("/var/lib/tritoncluster/scratch", "/var/lib/tritoncluster/scratch"),
        ("/mnt/ssd", "/mnt/ssd/tritoncluster-scratch"),
        ("/mnt/ssd/", "/mnt/ssd/tritoncluster-scratch"),
        ("//srv", "/srv/tritoncluster-scratch"),
        ("/", "/tritoncluster-scratch"),
        ("/var/lib/tritoncluster", "/var/lib/tritoncluster/tritoncluster-scratch"),
        ("/var/lib/tritoncluster-disk", "/var/lib/tritoncluster-disk/tritoncluster-scratch"),
    ],
)
def test_scratch_is_a_folder_inside_the_owner_s(folder, ours):
    assert worker_scratch(folder) == ours


MEMORY = {
    "dask_scheduler_memory": "1g",
    "dask_scheduler_workload_memory": "2g",
    "jobs_at_once": "2",
    "jobs_memory": "896m",
    "notebook_memory": "1g",
}


@pytest.mark.parametrize(
    ("changed", "people", "wanted"),
    [
        ({}, 0, 1024 + 2048 + 128),
        ({}, 3, 1024 + 2048 + 128 + 3 * 1024),
        # Programs of jobs are in the jobs service, or at a terminal: the larger counts.
        ({"jobs_at_once": 4}, 0, 1024 + 4 * 896 + 256 + 128),
        ({"dask_scheduler_memory": "512m", "notebook_memory": "512m"}, 1, 512 + 2048 + 128 + 512),
    ],
)
def test_memory_that_services_take_beside_workers(changed, people, wanted):
    assert memory_beside_workers(MEMORY | changed, ["scheduler", "worker"], people) == wanted
    assert memory_beside_workers(MEMORY | changed, ["worker"], people) == 0


def test_a_sum_follows_what_is_written_elsewhere():
    gateway = yaml.safe_load((ROOT / "docker/gateway.compose.yaml").read_text())["services"]["gateway"]
    assert mebibytes(gateway["deploy"]["resources"]["limits"]["memory"]) == GATEWAY


SUM = """
- hosts: scheduler
  gather_facts: false
  roles: [cluster]
  tasks:
    - ansible.builtin.assert:
        that: cluster_memory_beside_workers | int == wanted | int
        fail_msg: it is {{ cluster_memory_beside_workers }}
"""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, 3200),
        ({"notebook": "false", "notebook_memory": "4g"}, 3200),
        ({"notebook": "true"}, 3200 + 1024),
        ({"notebook": True, "cluster_people": ["anna", "ben"], "notebook_memory": "512m"}, 3200 + 3 * 512),
        # An inventory that knows better has the last word, as it has with settings.
        ({"cluster_memory_beside_workers": 2048}, 2048),
    ],
)
def test_memory_is_kept_for_each_person_s_notebook(tmp_path, given, wanted):
    (tmp_path / "play.yml").write_text(SUM)
    hosts = {"scheduler": {"hosts": {"a": given}}, "workers": {"hosts": {"a": {}, "b": {}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"]
    done = subprocess.run([*command, "-e", f"wanted={wanted}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_use_of_a_typed_setting_gives_it_its_type():
    """Text from -e is text in every expression, whatever the argument specs say."""
    typed = "|".join(name for name, kind in kinds().items() if kind in ("int", "float", "bool"))
    # A value by itself is converted by whom it is given to.
    alone = re.compile(rf"\{{\{{ (?:{typed}) \}}\}}")
    bare = re.compile(rf"(?<![\w.])({typed})(?![\w:'-])(?!(?: (?:CPUs|MiB))? \| (?:int|float|bool|string|default))")
    words = []
    for path in [*(ROOT / "ansible").rglob("*.yml"), *(ROOT / "ansible").rglob("*.j2")]:
        if path.parent.name == "meta" or path.name == "settings.yml":
            continue
        for line in path.read_text().splitlines():
            for expression in re.findall(r"\{\{.*?\}\}|\{%.*?%\}|when: .*|that: .*", alone.sub("", line)):
                words += [f"{path.name}: {word}" for word in bare.findall(expression)]
    assert words == []


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.assert: {that: problems == wanted, fail_msg: "{{ problems }}"}
      run_once: true
      vars:
        problems: "{{ ansible_play_hosts_all | setting_problems(hostvars) }}"
"""


def test_ansible_gives_what_was_set(tmp_path):
    """By -e, by the inventory for one host, and by a template there."""
    (tmp_path / "play.yml").write_text(PLAY)
    hosts = {
        "a": {"dask_worker_tags": "gpu"},
        "b": {"dask_worker_cpus": "{{ 1 + 1 }}", "dask_worker_environment": {"A": 1}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    wanted = [
        """a: dask_worker_tags is 'gpu': set it to a list, as -e '{"dask_worker_tags": ["one", "two"]}'""",
        "inventory: node_least_memory is '1g': set it to a whole number",
    ]
    command = [sys.executable, "-m", "ansible", "playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"]
    more = ["-e", "node_least_memory=1g", "-e", json.dumps({"wanted": wanted}), "-e", "dask_scheduler_anyway=false"]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", []),
        ("--trees 500", ["--trees", "500"]),
        ("--title 'two words' \"and three\\ more\"", ["--title", "two words", "and three\\ more"]),
        ("--title 'no end", None),
    ],
)
def test_options_are_words_as_in_a_shell(options, found):
    assert words(options) == found
