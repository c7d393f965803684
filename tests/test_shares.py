"""A host's share of the certificates: shares.py among the filters, and what pki.py has signed for it."""

from pathlib import Path

import pytest
from pki import certificates
from shares import htpasswd, share, trust

ALL = ["scheduler", "jobs", "gateway", "registry", "notebook", "worker"]
PEOPLE = ["anna", "ben"]
REGISTRY = "/etc/docker/certs.d/10.0.0.1:5000"


def trusting(services: list[str]) -> list[dict]:
    return trust(services, "10.0.0.1:5000", PEOPLE, "CA\n", "CRL\n", "client:x\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("hosts/pi", "client", "gateway", *(f"clients/{person}" for person in PEOPLE), "dashboard"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("ca.crt",) if name == "dashboard" else ("tls.crt", "tls.key"):
            (tmp_path / name / file).write_text(f"{name}/{file}\n\n")
    return tmp_path


def shared(folder: Path, services: list[str]) -> dict[str, dict]:
    return {one["path"]: one for one in share(trusting(services), f"{folder}", "pi")}


def test_a_worker_has_its_own_alone(folder):
    found = shared(folder, ["worker"])
    assert found.keys() == {"/etc/tritoncluster/tls", REGISTRY}
    own, engine = found.values()
    assert own["files"] == {"ca.crt": "CA\n", "ca.crl": "CRL\n"} | {
        name: f"hosts/pi/{name}\n" for name in ("tls.crt", "tls.key")
    }
    assert (own["owner"], own["mode"], own["modes"]) == ("tritoncluster", "0700", {"tls.key": "0600"})
    # An engine has names of its own for them, and is root's.
    assert engine["files"] == {
        "ca.crt": "CA\n",
        "client.cert": "hosts/pi/tls.crt\n",
        "client.key": "hosts/pi/tls.key\n",
    }
    assert "owner" not in engine


def test_the_scheduler_s_host_has_clients_and_the_gateway_s(folder):
    found = shared(folder, ALL)
    assert found["/etc/tritoncluster/client"]["files"]["tls.crt"] == "client/tls.crt\n"
    assert found["/etc/tritoncluster/client"]["files"]["gateway.crt"] == "dashboard/ca.crt\n"
    gateway = found["/etc/tritoncluster/gateway"]
    assert gateway["files"]["gateway.key"] == "gateway/tls.key\n"
    assert gateway["modes"] == {"gateway.key": "0600", "htpasswd": "0600"}
    assert found["/etc/tritoncluster/people"] == {"path": "/etc/tritoncluster/people", "mode": "0700"}
    assert found["/etc/tritoncluster/people/ben"]["files"]["tls.key"] == "clients/ben/tls.key\n"


def test_no_key_can_be_read_by_others(folder):
    for one in shared(folder, ALL).values():
        assert [name for name in one.get("files", {}) if name.endswith(".key") and one["modes"][name] != "0600"] == []


def test_whom_a_host_trusts_needs_no_certificate(tmp_path):
    """Somebody who is new has none yet when the others are told who is no longer there."""
    files = {one["path"]: {*one["files"]} for one in trusting(ALL)}
    assert files.pop(REGISTRY) == {"ca.crt"}
    assert files.pop("/etc/tritoncluster/gateway") == {"ca.crt", "ca.crl", "htpasswd"}
    assert files == {
        f"/etc/tritoncluster/{name}": {"ca.crt", "ca.crl"} for name in ("tls", "client", "people/anna", "people/ben")
    }


def test_passwords_are_those_that_people_have():
    from passlib.hash import sha512_crypt  # which warns of Python 3.13 when nobody has imported it before

    lines = htpasswd(["client", "anna"], ["abc", "def"], ["salt1", "salt2"]).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["client", "anna"]
    assert [
        sha512_crypt.verify(password, line.partition(":")[2])
        for line, password in zip(lines, ("abc", "def"), strict=True)
    ] == [True, True]
    assert lines == htpasswd(["client", "anna"], ["abc", "def"], ["salt1", "salt2"]).splitlines()


def test_what_is_signed_for_a_host():
    found = {one["folder"]: one for one in certificates(ALL, "pi", "10.0.0.1", PEOPLE, ["pi", "localhost"])}
    assert found.keys() == {"hosts/pi", "client", "gateway", "clients/anna", "clients/ben"}
    assert found["hosts/pi"]["names"] == ["DNS:pi", "IP:10.0.0.1"]
    assert {name for name, one in found.items() if "serverAuth" in one["usage"]} == {"hosts/pi", "gateway"}
    # What a browser is told to trust can't sign for the cluster.
    assert [name for name, one in found.items() if one["authority"] == "dashboard"] == ["gateway"]
    assert found["clients/anna"] == {
        "folder": "clients/anna",
        "authority": "cluster",
        "usage": ["clientAuth"],
        "names": ["DNS:anna"],
    }
    assert [one["folder"] for one in certificates(["worker"], "pi", "10.0.0.1", PEOPLE, [])] == ["hosts/pi"]
