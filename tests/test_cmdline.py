"""A Raspberry Pi's cmdline.txt as it is found in the wild: each is put right once, and put back."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import raspberry_pi_cmdline
from ansible.module_utils import tritoncluster_cmdline as cmdline
from modules import module

ROOT = "console=tty1 root=PARTUUID=9730496b-02 rootwait quiet"
WORDS = cmdline.WORDS

#: What is there -> what is there afterwards.
FOUND = {
    "one line": (f"{ROOT}\n", f"{ROOT} {WORDS}\n"),
    "no last newline": (ROOT, f"{ROOT} {WORDS}"),
    "CRLF": (f"{ROOT}\r\n", f"{ROOT} {WORDS}\r\n"),
    "blanks around": (f"  {ROOT} \t\n", f"  {ROOT} {WORDS} \t\n"),
    "an empty line first": (f"\n{ROOT}\n", f"\n{ROOT} {WORDS}\n"),
    "a comment first": (f"# set root=/dev/sda1 here\n{ROOT}\n", f"# set root=/dev/sda1 here\n{ROOT} {WORDS}\n"),
    "a comment after blanks": (f"  # quiet=1\n{ROOT}\n", f"  # quiet=1\n{ROOT} {WORDS}\n"),
    "empty lines last": (f"{ROOT}\n\n\n", f"{ROOT} {WORDS}\n\n\n"),
    "words on a second line": (f"{ROOT}\n{WORDS}\n", f"{ROOT} {WORDS}\n{WORDS}\n"),
    "a second line with more": (f"{ROOT}\nfsck.repair=yes\n", f"{ROOT} {WORDS}\nfsck.repair=yes\n"),
    "turned off": (f"cgroup_disable=memory {ROOT}\n", f"cgroup_disable=memory {ROOT} {WORDS}\n"),
    "turned off with others": (f"{ROOT} cgroup_disable=pids,memory\n", f"{ROOT} cgroup_disable=pids,memory {WORDS}\n"),
    "turned on, and off after that": (
        f"cgroup_enable=memory {ROOT} cgroup_disable=memory\n",
        f"cgroup_enable=memory {ROOT} cgroup_disable=memory {WORDS}\n",
    ),
    "no root": ("console=serial0,115200 quiet\n", f"console=serial0,115200 quiet {WORDS}\n"),
    "flags alone": ("quiet splash\n", f"quiet splash {WORDS}\n"),
    "bytes that are no text": (f"{ROOT} name=\udcff\n", f"{ROOT} name=\udcff {WORDS}\n"),
}
RIGHT = {
    "ours": f"{ROOT} {WORDS}\n",
    "in another place": f"cgroup_memory=1 cgroup_enable=memory {ROOT}",
    "turned off, and on after that": f"cgroup_disable=memory {ROOT} cgroup_enable=memory\r\n",
    "with others": f"{ROOT} cgroup_enable=cpuset,memory\n",
}


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    folder = tmp_path / "boot"
    folder.mkdir()
    return folder


def put(boot: Path, content: str) -> Path:
    path = boot / "cmdline.txt"
    path.write_bytes(os.fsencode(content))
    return path


def run(boot: Path, running: str = "", state: str = "present") -> tuple[bool, str]:
    """Have the module do its work in this process, which takes no second."""
    (boot.parent / "running").write_text(running)
    params = {"boot": f"{boot}", "running": f"{boot.parent}/running", "limits": False}
    do = raspberry_pi_cmdline.add if state == "present" else raspberry_pi_cmdline.take_back
    return do(SimpleNamespace(params=params, check_mode=False), boot.parent / "own/cmdline.json")


@pytest.mark.parametrize("found", FOUND)
def test_each_is_put_right_once_and_put_back(boot: Path, found: str) -> None:
    before, after = FOUND[found]
    path = put(boot, before)
    path.chmod(0o755)
    assert run(boot)[0]
    assert os.fsdecode(path.read_bytes()) == after
    assert path.stat().st_mode & 0o777 == 0o755
    assert not run(boot)[0]
    assert run(boot, state="absent")[0]
    assert os.fsdecode(path.read_bytes()) == before
    assert not run(boot, state="absent")[0]
    # Nothing half written is left.
    assert [each.name for each in boot.iterdir()] == ["cmdline.txt"]
    assert list((boot.parent / "own").iterdir()) == []


@pytest.mark.parametrize("right", RIGHT)
def test_what_is_right_stays(boot: Path, right: str) -> None:
    path = put(boot, RIGHT[right])
    assert not run(boot)[0]
    assert not run(boot, state="absent")[0]
    assert path.read_bytes() == RIGHT[right].encode()


def test_the_kernel_s_line_is_that_which_it_runs_with(boot: Path) -> None:
    path = put(boot, "root=/dev/sda1 old\nconsole=tty1 root=/dev/mmcblk0p2 rootwait\n")
    run(boot, running="coherent_pool=1M console=tty1 root=/dev/mmcblk0p2 rootwait")
    assert path.read_text() == f"root=/dev/sda1 old\nconsole=tty1 root=/dev/mmcblk0p2 rootwait {WORDS}\n"


def test_what_the_owner_changes_meanwhile_stays(boot: Path) -> None:
    path = put(boot, f"{ROOT}\n")
    run(boot)
    path.write_text(path.read_text().replace("quiet", "splash"))
    run(boot, state="absent")
    assert path.read_text() == f"{ROOT}\n".replace("quiet", "splash")


def test_the_module_changes_nothing_when_it_is_only_asked(boot: Path) -> None:
    path = put(boot, f"{ROOT}\n")
    given = {"boot": f"{boot}", "record": f"{boot.parent}/record", "running": "/dev/null"}
    assert module("raspberry_pi_cmdline", check=True, **given)["changed"]
    assert path.read_text() == f"{ROOT}\n"
    assert not (boot.parent / "record").exists()
    assert module("raspberry_pi_cmdline", **given)["content"] == path.read_text() == f"{ROOT} {WORDS}\n"


def test_ubuntu_has_it_in_the_folder_of_the_current_system(boot: Path) -> None:
    put(boot, f"{ROOT}\n")
    (boot / "current").mkdir()
    path = put(boot / "current", f"{ROOT}\n")
    run(boot)
    assert path.read_text() == f"{ROOT} {WORDS}\n"
    assert (boot / "cmdline.txt").read_text() == f"{ROOT}\n"
    # The system after an update, whose file is another.
    (boot / "current").rename(boot / "old")
    (boot / "current").mkdir()
    put(boot / "current", f"{ROOT} new=1\n")
    run(boot)
    run(boot, state="absent")
    assert (boot / "current/cmdline.txt").read_text() == f"{ROOT} new=1\n"


def test_a_file_that_says_where_the_other_is_is_none(boot: Path) -> None:
    moved = "DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved to /boot/firmware/cmdline.txt\n"
    put(boot, moved)
    assert not run(boot)[0]
    assert "there is no cmdline.txt" in problem(boot)
    assert (boot / "cmdline.txt").read_text() == moved


def problem(boot: Path, *, limits: bool = False, running: str = ROOT) -> str:
    return cmdline.problem(f"{boot}", limits=limits, running=running, mark=f"{boot.parent}/mark")


def test_a_pi_is_never_restarted_twice_for_the_same_reason(boot: Path) -> None:
    put(boot, f"{ROOT}\n")
    assert problem(boot) == ""
    content = run(boot)[1]
    # The words are there, and were not booted yet.
    assert problem(boot) == ""
    (boot.parent / "mark").write_text(str(content).strip())
    assert "it was restarted, and its kernel did not get" in problem(boot)
    assert "set raspberry_pi_boot" in problem(boot)
    # After another change of the file it may be tried again.
    put(boot, f"{ROOT} new=1 {WORDS}\n")
    assert problem(boot) == ""


def test_a_kernel_that_was_told_and_can_not_is_named(boot: Path) -> None:
    put(boot, f"{ROOT} {WORDS}\n")
    assert "its kernel can't limit memory, though" in problem(boot, running=f"{ROOT} {WORDS}")
    assert problem(boot, running=f"{ROOT} {WORDS}", limits=True) == ""


def test_a_boot_partition_that_can_not_be_written_is_named(boot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(boot, f"{ROOT}\n")
    monkeypatch.setattr(cmdline, "can_write", lambda _: False)
    assert problem(boot).startswith(f"{boot}/cmdline.txt can't be written: let `sudo mount -o remount,rw {boot}`")
    assert problem(boot, limits=True) == ""
    put(boot, f"{ROOT} {WORDS}\n")
    assert problem(boot) == ""


def test_no_file_at_all_matters_to_those_who_need_it(boot: Path) -> None:
    assert problem(boot, limits=True) == ""
    assert "set raspberry_pi_boot" in problem(boot)


def test_the_record_is_there_before_the_change(boot: Path) -> None:
    """Stopped between the two, what was there before is known all the same."""
    path = put(boot, f"{ROOT}\n")
    run(boot)
    noted = json.loads((boot.parent / "own/cmdline.json").read_text())
    assert noted == {str(path): {"before": f"{ROOT}\n", "after": f"{ROOT} {WORDS}\n"}}
    path.write_text(f"{ROOT}\n")
    assert not run(boot, state="absent")[0]
    assert path.read_text() == f"{ROOT}\n"
