"""What a new Raspberry Pi is told of itself: the playbook on this computer, and what it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pi_seed import network, problems

SETTINGS = {
    "user": "pi",
    "key": "ssh-ed25519 AAAA anna@laptop",
    "time_zone": "Europe/Berlin",
    "address": "",
    "gateway": "",
    "name_servers": [],
    "wifi": "",
    "wifi_password": "",
    "wifi_country": "",
}
FIXED = {"address": "192.168.1.11/24", "gateway": "192.168.1.1"}
WIFI = {"wifi": "Labor", "wifi_password": "correct horse", "wifi_country": "DE"}
INVENTORY = """
workers:
  hosts:
    pi-1: {ansible_host: 192.168.1.11}
    pi-2: {ansible_host: pi-2.local, ansible_port: 2222}
  vars: {ansible_user: anna, ansible_become: true}
raspberry_pis:
  hosts:
    pi-1: {pi_seed_address: 192.168.1.11/24, pi_seed_gateway: 192.168.1.1}
    pi-2: {pi_seed_wifi: Labor, pi_seed_wifi_password: "{{ 'x' * 8 }}", pi_seed_wifi_country: DE}
"""


class Controller:
    """A person's computer, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.inventory = home, home / "inventory/hosts.yml"
        self.inventory.parent.mkdir()
        self.inventory.write_text(INVENTORY)
        self.seeds = self.inventory.parent / "seeds"

    def play(self, *words: str, status: int = 0) -> str:
        program = Path(sys.executable).parent / "ansible-playbook"
        environment = os.environ | {
            "HOME": str(self.home),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [program, "-i", self.inventory, ROOT / "ansible/pi-seed.yml", *words]
        done = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def read(self, host: str, name: str) -> dict:
        return yaml.safe_load((self.seeds / host / name).read_text())


@pytest.fixture
def controller(tmp_path):
    found = Controller(tmp_path)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / ".ssh/id_ed25519"]
    subprocess.run(command, check=True)
    return found


def test_it_writes_what_a_pi_reads_and_ssh_knows_it(controller):
    said = controller.play()
    assert "bootfs" in said
    data = (controller.seeds / "pi-1/user-data").read_text()
    assert data.startswith("#cloud-config\n")
    content = yaml.safe_load(data)
    (user,) = content["users"]
    own = (controller.home / ".ssh/id_ed25519.pub").read_text().strip()
    assert (content["hostname"], user["name"], user["ssh_authorized_keys"]) == ("pi-1", "anna", [own])
    assert user["lock_passwd"]
    assert content["ssh_pwauth"] is False
    # The key that it will have is the key that SSH here expects.
    files = {file["path"]: file["content"] for file in content["write_files"]}
    (own_key,) = re.findall(r"^HostKey (.*)$", files["/etc/ssh/sshd_config.d/10-own-key.conf"], re.MULTILINE)
    (controller.home / "own").write_text(files[own_key])
    (controller.home / "own").chmod(0o600)
    shown = subprocess.check_output(["ssh-keygen", "-y", "-f", controller.home / "own"], text=True).split()[:2]
    assert files[f"{own_key}.pub"].split()[:2] == shown
    known = [line.split()[:3] for line in (controller.home / ".ssh/known_hosts").read_text().splitlines()]
    assert ["192.168.1.11", *shown] in known
    assert {name for name, *_ in known} == {"192.168.1.11", "[pi-2.local]:2222"}
    assert controller.read("pi-1", "network-config")["network"]["ethernets"]["cable"]["addresses"] == [
        "192.168.1.11/24"
    ]
    assert controller.read("pi-2", "network-config")["network"]["wifis"]["wlan0"]["access-points"] == {
        "Labor": {"password": "xxxxxxxx"}
    }
    for path in controller.seeds.rglob("*"):
        secret = path.name in ("user-data", "network-config", "pi-1.key", "pi-2.key")
        assert not secret or path.stat().st_mode & 0o077 == 0, path
    assert "PRIVATE KEY" not in said
    assert "xxxxxxxx" not in said

    before = {path: path.read_bytes() for path in controller.seeds.rglob("*") if path.is_file()}
    again = controller.play("--diff")
    assert set(re.findall(r"changed=(\d+)", again)) == {"0"}
    # Another user is another computer: it is set up anew, and has the same key.
    controller.play("-e", "pi_seed_user=ben", "--limit", "pi-1")
    after = {path: path.read_bytes() for path in before}
    changed = {str(path.relative_to(controller.seeds)) for path in before if before[path] != after[path]}
    assert changed == {"pi-1/user-data", "pi-1/meta-data"}


def test_nothing_is_written_of_what_can_t_be(controller):
    said = controller.play("-e", "pi_seed_time_zone='at home'", status=2)
    assert "pi-1: pi_seed_time_zone is 'at home': set it to a name as Europe/Berlin" in said
    assert not controller.seeds.exists()
    controller.inventory.write_text("workers: {hosts: {pi-1: }}\n")
    assert "name them under raspberry_pis" in controller.play(status=2)


def test_without_a_key_of_one_s_own_it_says_how_to_make_one(tmp_path):
    said = Controller(tmp_path).play(status=2)
    assert "pi-1: this computer has no SSH key: make one with ssh-keygen" in said


@pytest.mark.parametrize(
    ("host", "settings", "said"),
    [
        ("Pi_1", {}, "Pi_1 can't be the name of a computer"),
        ("pi-", {}, "can't be the name of a computer"),
        ("pi-1", {"user": "root"}, "pi_seed_user is 'root'"),
        ("pi-1", {"user": "Anna Bell"}, "pi_seed_user is 'Anna Bell'"),
        ("pi-1", {"key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "has no SSH key"),
        ("pi-1", {"time_zone": "../etc"}, "pi_seed_time_zone is '../etc'"),
        ("pi-1", {"time_zone": "Mars/Base"}, "pi_seed_time_zone is 'Mars/Base'"),
        ("pi-1", {**FIXED, "address": "192.168.1.11"}, "pi_seed_address is '192.168.1.11': write it with the length"),
        ("pi-1", {**FIXED, "address": "192.168.1.300/24"}, "pi_seed_address is"),
        (
            "pi-1",
            {**FIXED, "gateway": ""},
            "pi_seed_gateway is '': set it to the router's address in the network 192.168.1.0/24",
        ),
        ("pi-1", {**FIXED, "gateway": "10.0.0.1"}, "pi_seed_gateway is '10.0.0.1'"),
        ("pi-1", {**FIXED, "name_servers": "1.1.1.1"}, "pi_seed_name_servers is '1.1.1.1': set it to a list"),
        ("pi-1", {**WIFI, "wifi_password": "short"}, "pi_seed_wifi_password has to be of 8 to 63 characters"),
        ("pi-1", {**WIFI, "wifi_country": "Germany"}, "pi_seed_wifi_country is 'Germany': set it to two letters"),
    ],
)
def test_what_a_pi_can_t_be_told_is_one_line(host, settings, said):
    (line,) = problems(host, SETTINGS | settings)
    assert line.startswith(f"{host}: ")
    assert said in line
    assert "\n" not in line
    assert "short" not in line


@pytest.mark.parametrize(
    "settings", [{}, FIXED, WIFI, {**FIXED, **WIFI}, {**FIXED, "name_servers": ["9.9.9.9", "2620:fe::fe"]}]
)
def test_what_it_can_be_told(settings):
    assert problems("pi-1", SETTINGS | settings, ["192.168.1.11/24", "192.168.1.12/24"]) == []


def test_two_with_one_address_are_refused():
    (line,) = problems("pi-1", SETTINGS | FIXED, ["192.168.1.11/24"] * 2)
    assert "is another Pi's, too" in line


def test_a_fixed_address_has_its_way_out_and_names():
    (cable,) = network(SETTINGS | FIXED)["network"]["ethernets"].values()
    assert cable["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.1.1"}]
    assert cable["nameservers"] == {"addresses": ["192.168.1.1"]}
    assert not cable["dhcp4"]
