"""Hosts that come and go: what is known of them, and who is refused since."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from authorities import trusted
from conftest import ROOT
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from members import departed, record, recorded, workers, workers_of
from pki import common_name, is_due, unrefused

PLAY = """
- hosts: all
  gather_facts: false
  vars:
    folders: "{{ ['hosts/' ~ inventory_hostname] + (['client'] if inventory_hostname == 'desktop' else []) }}"
  tasks:
    - ansible.builtin.include_role: {name: pki, tasks_from: authority}
      vars: {__pki_authority: cluster}
      when: not (pki_folder ~ '/cluster/ca.crt') is ansible.builtin.exists
      run_once: true
    - ansible.builtin.include_role: {name: pki, tasks_from: name}
      run_once: true
    - ansible.builtin.include_role: {name: pki, tasks_from: refuse}
      vars: {__pki_unrefused: "{{ pki_folder | pki_unrefused(gone) }}"}
      run_once: true
    - ansible.builtin.include_role: {name: pki, tasks_from: certificate}
      vars:
        __pki_certificate: {folder: "{{ item }}", authority: cluster, usage: [clientAuth], names: "{{ names }}"}
        names: "{{ [inventory_hostname, item | basename] | unique | pki_names }}"
      when:
        - inventory_hostname not in gone
        - (pki_folder ~ '/' ~ item) | pki_is_due(pki_folder ~ '/cluster/ca.crt', names, days)
      loop: "{{ folders }}"
"""
FILES = ("cluster/ca.crt", "cluster/name.crt", "hosts/pi/tls.crt")
ROOM = ("desktop", "laptop", "pi")


def run(folder: Path, *, gone: tuple[str, ...] = (), days: int = 1) -> str:
    """Have the room's certificates made, and those of the departed refused."""
    (folder / "play.yml").write_text(PLAY)
    variables = {"pki_folder": f"{folder}/pki", "gone": list(gone), "days": days}
    hosts = {"hosts": dict.fromkeys(ROOM), "vars": variables | {"ansible_connection": "local"}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": hosts}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", folder / "hosts.yml", folder / "play.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": "ansible.cfg"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def number(folder: Path, name: str) -> int:
    return x509.load_pem_x509_certificate((folder / "pki" / name / "tls.crt").read_bytes()).serial_number


def refused(folder: Path) -> set[int]:
    return {each.serial_number for each in x509.load_pem_x509_crl((folder / "pki/cluster/ca.crl").read_bytes())}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_who_leaves_is_refused_with_all_it_has_had(tmp_path: Path) -> None:
    folder = f"{tmp_path}/pki"
    run(tmp_path)
    assert refused(tmp_path) == set()
    first_list = (tmp_path / "pki/cluster/ca.crl").read_text()
    first = {name: number(tmp_path, name) for name in ("hosts/desktop", "hosts/laptop", "hosts/pi", "client")}
    # All are renewed.
    run(tmp_path, days=1000)
    second = {name: number(tmp_path, name) for name in first}
    assert set(first.values()).isdisjoint(second.values())
    keys = {name: (tmp_path / "pki" / name / "tls.key").read_text() for name in first}

    run(tmp_path, gone=("pi",))
    gone = {first["hosts/pi"], second["hosts/pi"]}
    assert refused(tmp_path) == gone
    assert unrefused(folder, ["pi"]) == []
    assert {name: number(tmp_path, name) for name in first} == second

    # The scheduler's host has the client's certificate, too.
    run(tmp_path, gone=("pi", "desktop"))
    gone |= {first["hosts/desktop"], second["hosts/desktop"], first["client"], second["client"]}
    assert refused(tmp_path) == gone

    # They come back, with other keys, and what was refused stays so.
    run(tmp_path)
    third = {name: number(tmp_path, name) for name in first}
    assert refused(tmp_path) == gone
    assert gone.isdisjoint(third.values())
    assert third["hosts/laptop"] == second["hosts/laptop"]
    changed = {name for name, key in keys.items() if (tmp_path / "pki" / name / "tls.key").read_text() != key}
    assert changed == {"hosts/pi", "hosts/desktop", "client"}
    assert not is_due(f"{folder}/hosts/pi", f"{folder}/cluster/ca.crt", ["DNS:pi"], 1)

    # Another authority takes turns with this one.
    cluster = tmp_path / "pki/cluster"
    own, its_name, host = (x509.load_pem_x509_certificate((tmp_path / "pki" / file).read_bytes()) for file in FILES)
    assert own.subject == its_name.subject
    host.verify_directly_issued_by(own)
    with pytest.raises(InvalidSignature):
        host.verify_directly_issued_by(its_name)
    old, old_list = ((cluster / name).read_text().strip() for name in ("ca.crt", "ca.crl"))
    cluster.rename(tmp_path / "away")
    run(tmp_path)
    new, new_list = ((cluster / name).read_text().strip() for name in ("ca.crt", "ca.crl"))
    assert set(third.values()).isdisjoint({number(tmp_path, name) for name in first})
    assert trusted(new, []) == trusted(new, [new]) == f"{new}\n"
    assert trusted(new, [old, new, f"{new}\n{old}"]) == f"{new}\n{old}\n"
    assert trusted(old_list, [first_list]) == f"{old_list}\n"
    assert trusted(new_list, [old_list, new_list]) == f"{new_list}\n{old_list}\n"
    assert common_name(f"{cluster}/ca.crt") != common_name(f"{tmp_path}/away/ca.crt")


def test_how_to_reach_a_host_and_what_is_where_on_it_is_kept_without_its_passwords(tmp_path: Path) -> None:
    variables = {
        "ansible_host": "192.168.1.13",
        "ansible_port": 2222,
        "ansible_password": "secret",
        "ansible_become_password": "secret",
        "dask_worker_cpus": 2,
        "dask_worker_scratch": "/mnt/disk",
    }
    kept = record(variables, "192.168.1.13", ["worker"], workers("pi-3", 2))
    places = {"dask_worker_scratch": "/mnt/disk"}
    assert kept["settings"] == {"ansible_host": "192.168.1.13", "ansible_port": "2222", **places}
    for name in ("desktop", "pi-3", "pi-4"):
        (tmp_path / "hosts" / name).mkdir(parents=True)
        (tmp_path / "hosts" / name / "tls.crt").touch()
    (tmp_path / "hosts/pi-3/host.json").write_text(json.dumps(kept))
    assert recorded(f"{tmp_path}", "pi-3") == kept
    assert departed(f"{tmp_path}", ["desktop"]) == ["pi-3", "pi-4"]
    assert workers_of(f"{tmp_path}", ["pi-3", "pi-4"]) == ["pi-3-1", "pi-3-2", "pi-4"]
