"""Packages of the distribution: apt as it is found, in the words that it has for it."""

import os
from pathlib import Path

import pytest
from modules import module, program
from node_packages import reason, unread

LOCK = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)"
THIRD = "E: The repository 'https://download.example.org/linux trixie Release' does not have a Release file."
REMOVES = """The following packages will be REMOVED:
  containerd.io docker-ce-cli
E: Packages need to be removed but remove is disabled."""


class Host:
    """What apt-get says is in files here, for one call after the other; nothing is installed anywhere."""

    def __init__(self, folder: Path) -> None:
        self.commands, self.lists, self.calls = folder / "bin", folder / "lists", folder / "calls"
        self.lists.mkdir()
        (self.lists / "deb_Packages").touch()
        self.installed()
        self.says()

    def installed(self, *names: str) -> None:
        program(self.commands, "dpkg-query", f"printf '%s installed\\n' {' '.join(names)}" if names else "exit 1")

    def says(self, *answers: tuple[int, str]) -> None:
        """Answer each call with a status and words, and those that come after them well."""
        cases = "\n".join(
            f"{number}) cat <<'END'\n{said}\nEND\nexit {status};;" for number, (status, said) in enumerate(answers)
        )
        number = f'n=0; while read -r _; do n=$((n + 1)); done <"{self.calls}"; echo "$*" >>"{self.calls}"'
        program(self.commands, "apt-get", f"{number}; case $n in {cases}\nesac")
        self.calls.write_text("")
        program(self.commands, "cat", 'while IFS= read -r line; do echo "$line"; done')

    def install(self, *names: str, **more: object) -> dict[str, object]:
        return module("node_packages", commands=self.commands, names=names, lists=f"{self.lists}", **more)

    def called(self) -> list[str]:
        return [call.split("Timeout=60 ")[1] for call in self.calls.read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_missing_is_installed_and_nothing_removed_for_it(host: Host) -> None:
    host.installed("skopeo")
    done = host.install("skopeo", "docker.io")
    assert done["changed"]
    assert done["installed"] == ["docker.io"]
    (call,) = host.called()
    assert "--no-remove" in call
    assert call.endswith(" install docker.io")
    host.installed("skopeo", "docker.io")
    assert not host.install("skopeo", "docker.io")["changed"]
    assert len(host.called()) == 1


def test_lists_that_are_old_are_read_anew(host: Host) -> None:
    os.utime(host.lists, (0, 0))
    host.install("skopeo")
    assert [call.split()[0] for call in host.called()] == ["update", "--yes"]


def test_who_holds_the_lock_is_waited_for(host: Host) -> None:
    host.says((100, LOCK), (100, "E: Unable to lock directory /var/lib/apt/lists/"))
    assert host.install("skopeo")["changed"]
    assert len(host.called()) == 3


def test_who_holds_it_for_ever_is_named(host: Host) -> None:
    host.says(*[(100, LOCK)] * 9)
    assert host.install("skopeo", lock_seconds=1)["msg"] == (
        "skopeo can't be installed: unattended-upgr, process 812, installs packages there and does not come to its "
        "end: run this again when it has"
    )


def test_a_source_that_is_broken_is_named_and_does_no_harm(host: Host) -> None:
    os.utime(host.lists, (0, 0))
    host.says((100, THIRD))
    done = host.install("skopeo")
    assert done["changed"]
    (warning,) = done["warnings"]
    assert "https://download.example.org/linux trixie Release' does not have a Release file" in str(warning)


def test_a_source_that_is_needed_and_broken_is_one_line(host: Host) -> None:
    host.says((100, "E: Unable to locate package skopeo"), (100, THIRD), (100, "E: Unable to locate package skopeo"))
    said = host.install("skopeo")["msg"]
    why = f"apt can't read a source of packages: {THIRD[3:-1]}: mend it, or remove it from /etc/apt"
    assert said == f"skopeo can't be installed: {why}"


def test_lists_whose_packages_are_gone_are_read_anew(host: Host) -> None:
    host.says((100, "E: Failed to fetch http://deb.example.org/skopeo.deb  404  Not Found"))
    assert host.install("skopeo")["changed"]
    assert [call.split()[0] for call in host.called()] == ["--yes", "update", "--yes"]


def test_what_replaces_another_removes_that_alone(host: Host) -> None:
    host.installed("systemd-timesyncd")
    host.says((0, "Remv systemd-timesyncd [257]\nInst chrony"))
    assert host.install("chrony", replaces=["systemd-timesyncd"])["changed"]
    simulated, installed = host.called()
    assert "--simulate" in simulated
    assert "--no-remove" not in installed
    host.says((0, "Remv systemd-timesyncd [257]\nRemv ntpsec [1]\nInst chrony"))
    host.install("chrony", replaces=["systemd-timesyncd"])
    assert "--no-remove" in host.called()[1]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (REMOVES, "apt would remove containerd.io docker-ce-cli for them: remove that yourself, or leave the host out"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "run `sudo dpkg --configure -a`"),
        (
            "E: Unable to locate package docker.io\nE: more",
            "Unable to locate package docker.io: `sudo apt-get install` of them",
        ),
        ("", "apt says nothing: "),
        (LOCK.split(" It is", maxsplit=1)[0], "another program installs packages there"),
    ],
)
def test_why_nothing_was_installed_is_one_line(said: str, line: str) -> None:
    assert line in reason(said)
    assert "\n" not in reason(said)


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("Hit:1 http://mirror.example/debian trixie InRelease\nReading package lists...", ""),
        (f"W: An error occurred\n{THIRD}\nN: more", THIRD[3:-1]),
        (
            "W: Failed to fetch http://x/InRelease  Could not resolve 'x'\nW: Some index files",
            "Failed to fetch http://x/InRelease",
        ),
        (
            "E: Malformed entry 1 in list file /etc/apt/sources.list.d/x.list (URI)",
            "Malformed entry 1 in list file /etc/apt/",
        ),
        (
            "W: GPG error: http://x stable InRelease: NO_PUBKEY 1\nE: The repository 'http://x stable' is not signed.",
            "The repo",
        ),
    ],
)
def test_sources_that_can_not_be_read(said: str, source: str) -> None:
    assert unread(said).startswith(source)
    assert bool(unread(said)) == bool(source)
