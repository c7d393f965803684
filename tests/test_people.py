"""People: who may be named, and what each of them has, on one machine and in a room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from pki import constraints, known, people_problems, signs_for, unrefused

sys.path.append(f"{ROOT / 'docker/setup'}")
import certificates
import people

#: Who can't be named so, and what is said of it.
WRONG = {
    "Anna": "is no name: write small letters, digits and -, with a letter first, 31 at most",
    "1st": "is no name: write small letters",
    "büro": "is no name: write small letters",
    "x" * 32: "is no name: write small letters",
    "a/b": "is no name: write small letters",
    "client": "is there without being named: leave it out",
}


@pytest.mark.parametrize("name", WRONG)
def test_who_can_not_be_named_so(name: str) -> None:
    for said in (list(people.wrong(f"teacher {name}")), people_problems(["teacher", name], ["pi"])):
        (line,) = said
        assert f": {name} {WRONG[name]}" in line


def test_who_can_be_named_so() -> None:
    names = ["teacher", "group-1", "x" * 31]
    assert list(people.wrong("  ".join(names))) == list(people.wrong("")) == []
    assert people_problems(names, ["pi"]) == people_problems([], ["pi"]) == []


def test_nobody_is_named_twice_nor_like_a_host() -> None:
    assert list(people.wrong("anna anna")) == ["CLUSTER_PEOPLE=anna anna in .env: anna is there twice: leave one out"]
    assert people_problems(["anna", "anna"], []) == ["inventory: cluster_people: anna is there twice: leave one out"]
    (line,) = people_problems(["pi"], ["pi"])
    assert "pi is the name of a host" in line
    (line,) = people_problems("anna", ["pi"])
    assert "write one, as cluster_people: [teacher, group-1]" in line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the set-up of one machine keeps what it makes."""
    user = (os.getuid(), os.getgid())
    for module in (certificates, people):
        monkeypatch.setattr(module, "SECRETS", tmp_path)
        monkeypatch.setattr(module, "NODE_USER", user)
    monkeypatch.setattr(people, "FOLDER", tmp_path / "authority/people")
    for name in ("authority", "node", "client", "gateway"):
        (tmp_path / name).mkdir()
    (tmp_path / "authority/password").write_text("of an earlier version")
    return tmp_path


def prepare(folder: Path, *names: str) -> tuple[list[str], list[str]]:
    certificates.make(days=30, names=[], user=(os.getuid(), os.getgid()))
    found = people.agree(list(names))
    users = [line.partition(":")[0] for line in (folder / "gateway/htpasswd").read_text().splitlines()]
    assert users == ["client", *names]
    return found


def is_refused(folder: Path, certificate: bytes) -> bool:
    (folder / "shown.crt").write_bytes(certificate)
    lists = ["-CAfile", folder / "gateway/ca.crt", "-CRLfile", folder / "gateway/ca.crl"]
    command = ["openssl", "verify", "-crl_check", *lists, folder / "shown.crt"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "certificate revoked" in done.stderr
    return done.returncode != 0


def test_who_is_no_longer_named_is_refused_with_all_that_was_given(folder: Path) -> None:
    assert prepare(folder) == ([], [])
    assert people.password("client") == "of an earlier version"
    assert prepare(folder, "teacher", "group-1") == (["teacher", "group-1"], [])
    given = [people.bundle(name, 30)["tls.crt"] for name in ("group-1", "group-1", "teacher", "client")]
    passwords = {name: people.password(name) for name in people.known()}
    assert len(set(passwords.values())) == 3
    assert not any(is_refused(folder, each) for each in given)
    before = (folder / "gateway/htpasswd").read_text()
    assert prepare(folder, "teacher", "group-1") == ([], [])
    assert (folder / "gateway/htpasswd").read_text() == before

    assert prepare(folder, "teacher") == ([], ["group-1"])
    assert [is_refused(folder, each) for each in given] == [True, True, False, False]
    for place in ("node", "client", "gateway"):
        assert (folder / place / "ca.crl").read_text() == (folder / "authority/ca.crl").read_text()

    # A namesake is somebody else.
    assert prepare(folder, "teacher", "group-1") == (["group-1"], [])
    assert people.password("group-1") != passwords["group-1"]
    assert [is_refused(folder, each) for each in [*given, people.bundle("group-1", 30)["tls.crt"]]] == [
        *(True, True, False, False),
        False,
    ]


def test_an_authority_of_the_cluster_that_is_lost_takes_its_list_along(folder: Path) -> None:
    prepare(folder, "anna")
    people.bundle("anna", 30)
    prepare(folder)
    for name in ("ca.crt", "ca.key", "ca.crl"):
        (folder / "authority" / name).unlink()
    prepare(folder)
    assert not is_refused(folder, (folder / "client/tls.crt").read_bytes())


def test_what_is_known_of_people_in_a_room(tmp_path: Path) -> None:
    for name in ("anna", "ben", "of-an-earlier-version"):
        (tmp_path / "clients" / name).mkdir(parents=True)
    for name in ("anna", "ben"):
        (tmp_path / "clients" / name / "password").touch()
    assert known(f"{tmp_path}") == ["anna", "ben"]
    # Without an authority, there is nothing to take back.
    (tmp_path / "clients/anna/tls.crt").touch()
    assert unrefused(f"{tmp_path}", [], ["anna"]) == []
    assert not signs_for(f"{tmp_path}/dashboard/ca.crt", ["DNS:desk"])


def test_names_that_an_authority_is_limited_to() -> None:
    given = ["DNS:desk.local", "IP:192.168.1.5", "IP:fd00::1"]
    assert constraints(given) == ["DNS:desk.local", "IP:192.168.1.5/32", "IP:fd00::1/128"]
