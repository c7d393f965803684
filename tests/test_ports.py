"""Which port is for what, and whom a firewall lets in: ports.py among the filters."""

import re

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from ports import OPEN, PORTS, clashes, of, openings, rules
from ports import settings_of as settings_of_ports
from settings import of as settings_of
from settings import problem

NAMES = [name for ports in PORTS.values() for name in ports]
DEFAULTS = settings_of({}, NAMES)
ALL = ["scheduler", "jobs", "gateway", "registry", "worker"]
HOSTS, CLIENTS = ["10.0.0.1", "10.0.0.2"], ["10.0.0.0/24"]


def test_the_defaults_are_in_nobodys_way():
    assert clashes(ALL, DEFAULTS) == []


def test_a_host_has_ports_for_what_runs_there():
    assert of(["worker"], DEFAULTS) == {
        "worker": [
            [8800, "the worker", "dask_worker_port"],
            [8900, "the worker's nanny", "dask_worker_nanny_port"],
            [9000, "the worker's HTTP", "dask_worker_http_port"],
        ]
    }
    assert of(["jobs"], DEFAULTS) == {"jobs": []}


@pytest.mark.parametrize(
    ("services", "moved", "said"),
    [
        (ALL, {"gateway_port": "8786"}, "dask_scheduler_port and gateway_port both have port 8786: set one of them"),
        # Of a host with several processes.
        (ALL, {"registry_port": 8899}, "registry_port and dask_worker_port both have port 8899: set one of them"),
        (ALL, {"dask_worker_http_port": 8850}, "dask_worker_port and dask_worker_http_port both have port 8850"),
        (["worker"], {"registry_port": 8899}, ""),
        (["scheduler", "gateway", "registry"], {"registry_port": 8899}, ""),
    ],
)
def test_ports_that_meet_are_named(services, moved, said):
    found = clashes(services, DEFAULTS | moved)
    assert found[0].startswith(said) if said else found == []


def test_each_port_is_the_scheduler_s_or_a_worker_s():
    """As the role cluster asks for them."""
    assert settings_of_ports(["scheduler", "gateway", "registry"]) + settings_of_ports(["worker"]) == NAMES
    assert settings_of_ports(["jobs"]) == []


def test_a_firewall_lets_in_hosts_and_clients():
    assert openings([*ALL, "clock"], DEFAULTS, HOSTS, [*CLIENTS, HOSTS[0]]) == [
        *(
            {"source": host, "protocol": "tcp", "ports": ["8786", "8787", "5000", "8800-8899", "8900-8999"]}
            for host in HOSTS
        ),
        {"source": "10.0.0.0/24", "protocol": "tcp", "ports": ["8786", "8787"]},
        *({"source": host, "protocol": "udp", "ports": ["123"]} for host in HOSTS),
    ]
    assert openings(["worker"], DEFAULTS, [], CLIENTS) == []
    assert rules(openings(["worker"], DEFAULTS, HOSTS[:1], [])) == [
        {"source": "10.0.0.1", "protocol": "tcp", "ports": "8800:8899,8900:8999"}
    ]


@given(st.sets(st.sampled_from(ALL)), st.dictionaries(st.sampled_from(NAMES), st.integers(1, 65436)))
def test_what_is_opened_is_what_is_listened_on(services, moved):
    settings = DEFAULTS | moved
    wanted = {port for ports in of(sorted(services), settings).values() for port, _, name in ports if name in OPEN}
    found = openings(sorted(services), settings, HOSTS[:1], [])
    opened = {int(ports.split("-")[0]) for each in found for ports in each["ports"]}
    assert opened == wanted


@pytest.mark.parametrize("value", [1, "8786", 65535])
def test_what_a_port_may_be(value):
    assert problem("dask_scheduler_port", "int", value) == ""


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("gateway_port", 0, "gateway_port is 0: set it to a port, from 1 to 65535"),
        ("gateway_port", "https", "gateway_port is 'https': set it to a port"),
        ("registry_port", 65536, "set it to a port, from 1 to 65535"),
        ("registry_port", 5000.5, "set it to a port"),
        ("dask_worker_port", 65500, "set it to a port, from 1 to 65436"),
    ],
)
def test_what_a_port_may_not_be(setting, value, said):
    assert said in problem(setting, "int", value)


def test_each_port_of_ours_is_in_one_place():
    """Beside a setting's description and default, which another test compares, no playbook and no role has one."""
    numbers = re.compile(rf"\b({'|'.join(map(str, DEFAULTS.values()))})\b")
    settings = ("meta/argument_specs.yml", "defaults/main.yml", "defaults/main/settings.yml")
    written = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in sorted((ROOT / "ansible").rglob("*"))
        if path.suffix in (".yml", ".j2") and not str(path).endswith(settings)
        for line in path.read_text().splitlines()
        if numbers.search(line) and "rounds=" not in line
    ]
    assert written == []
