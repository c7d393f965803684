"""Certificates that the controller makes: once, as the user who types the command, for hosts of any name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from modules import program
from pki import alternative_names, is_due, signs_for

PLAY = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.include_role: {name: pki, tasks_from: authority}
      vars: {__pki_authority: cluster}
      run_once: true
    - ansible.builtin.include_role: {name: pki, tasks_from: authority}
      vars: {__pki_authority: dashboard, __pki_signs_for: "{{ dashboard | pki_names }}"}
      run_once: true
    - ansible.builtin.include_role: {name: pki, tasks_from: certificate}
      vars:
        __pki_certificate:
          {folder: "hosts/{{ inventory_hostname }}", authority: cluster, usage: [serverAuth],
           names: "{{ [inventory_hostname, '192.168.1.5'] | pki_names }}"}
"""
DASHBOARD = ["küche", "desk.local", "192.168.1.5", "fd00::5"]
HOSTS = ("büro", "straße.example.org", "küchen_pi", "pi_1", "x" * 63)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates' folder, made as a deployment does where the inventory makes every task root's."""
    folder = tmp_path_factory.mktemp("pki")
    program(folder, "sudo", f"echo called >>{folder}/sudo.log\nexit 1")
    (folder / "play.yml").write_text(PLAY)
    variables = {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": f"{folder}/sudo"}
    variables |= {"pki_folder": f"{folder}/pki", "dashboard": DASHBOARD}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(HOSTS), "vars": variables}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", folder / "hosts.yml", folder / "play.yml"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return folder


def test_tasks_on_the_controller_are_the_user_s(folder: Path) -> None:
    assert not (folder / "sudo.log").exists()


@pytest.mark.parametrize("name", HOSTS)
def test_a_certificate_is_made_once(folder: Path, name: str) -> None:
    own, authority = f"{folder}/pki/hosts/{name}", f"{folder}/pki/cluster/ca.crt"
    assert not is_due(own, authority, alternative_names([name, "192.168.1.5"]), 10)
    assert is_due(own, authority, alternative_names([name, "192.168.1.6"]), 10)
    assert is_due(own, authority, alternative_names([name, "192.168.1.5"]), 1000)


@pytest.mark.parametrize("others", [["laptop"], ["192.168.1.6"], ["fd00::6"], ["desk.example"]])
def test_the_dashboard_s_authority_signs_for_its_names_alone(folder: Path, others: list[str]) -> None:
    authority = f"{folder}/pki/dashboard/ca.crt"
    assert signs_for(authority, alternative_names(DASHBOARD))
    assert signs_for(authority, alternative_names(DASHBOARD[1:3]))
    assert not signs_for(authority, alternative_names(DASHBOARD + others))
    # The cluster's has no such limit: hosts come and go.
    assert signs_for(f"{folder}/pki/cluster/ca.crt", alternative_names(others))
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", folder / "key"]
    for names, good in ((DASHBOARD, True), (others, False)):
        subject = ["-subj", "/CN=dashboard", "-days", "1", "-out", folder / "crt"]
        subject += ["-addext", f"subjectAltName={','.join(alternative_names(names))}"]
        signer = ["-CA", authority, "-CAkey", authority.replace("crt", "key")]
        subprocess.run(["openssl", "req", "-x509", *key, *subject, *signer], capture_output=True, check=True)
        command = ["openssl", "verify", "-CAfile", authority, folder / "crt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == good, done.stderr


def test_names_are_those_of_dns() -> None:
    given = ["desktop", "büro.local", "straße", "192.168.1.5", "fd00::0:1", "pi_1", "Küche_2", "desktop.local"]
    assert alternative_names(given) == [
        "DNS:desktop",
        "DNS:xn--bro-hoa.local",
        "DNS:xn--strae-oqa",
        "IP:192.168.1.5",
        "IP:fd00::1",
        "DNS:pi_1",
        "DNS:xn--kche_2-3ya",
        "DNS:desktop.local",
    ]
