"""The file of finished pieces: what a crash, a bad disk or a full one leaves of it, and what is told."""

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritoncluster.errors import InputError
from tritoncluster.journal import JOURNAL, Journal
from tritoncluster.journal import store as stores
from tritoncluster.journal.store import FORMAT, Store

LIMIT = 1 << 30


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def blob(number: int) -> bytes:
    # Of some bytes, or of several pages.
    return bytes([number % 251]) * (20 + (number % 7) * 2000)


def filled(path: Path, numbers: range) -> Path:
    store = Store(path, LIMIT, print)
    for number in numbers:
        store.keep(key(number), len(blob(number)), lambda number=number: blob(number))
    store.close()
    return path


def found(path: Path, numbers: range, told: Callable[[str], object] = print) -> tuple[dict[int, bytes], int]:
    """Give what a store has, and how many rows it knows it has lost."""
    store = Store(path, LIMIT, told)
    there = {number: store.load(key(number)) for number in numbers if store.find(key(number)) is not None}
    store.close()
    return there, store.lost


def test_what_was_kept_is_found_and_is_the_users_alone(tmp_path: Path):
    path = filled(tmp_path / "new" / JOURNAL, range(100))
    assert found(path, range(200)) == ({number: blob(number) for number in range(100)}, 0)
    assert [each.name for each in path.parent.iterdir()] == [JOURNAL]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_of_an_open_journal_is_the_users_alone(tmp_path: Path):
    store = Store(tmp_path / JOURNAL, LIMIT, print)
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    store.close()


KILLED = """
import sys, time
from pathlib import Path
from tritoncluster.journal.store import Store
store = Store(Path(sys.argv[1]), 1 << 30, print)
for number in range(100_000):
    store.keep(number.to_bytes(16, "big"), 10, lambda number=number: bytes([number % 251]) * (20 + (number % 7) * 2000))
    if number % 50 == 0:
        print(number, store._committed, flush=True)
    time.sleep(0.001)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal whose writer was killed after some commits: much of it is in the log still."""
    path = tmp_path_factory.mktemp("killed") / JOURNAL
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as writer:
        commits = set()
        for line in writer.stdout or ():
            commits.add(line.split()[1])
            if len(commits) > 3:
                break
        writer.kill()
    return path


def test_kill_costs_what_was_not_committed(killed: Path, tmp_path: Path):
    shutil.copytree(killed.parent, tmp_path, dirs_exist_ok=True)
    there, lost = found(tmp_path / JOURNAL, range(100_000))
    assert lost == 0
    assert there == {number: blob(number) for number in range(len(there))}
    assert len(there) > 100


@given(st.integers(0, 10**9))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_torn_log_costs_what_is_torn(killed: Path, tmp_path: Path, end: int):
    folder = tmp_path / f"{time.monotonic_ns()}"
    shutil.copytree(killed.parent, folder)
    log = folder / f"{JOURNAL}-wal"
    os.truncate(log, end % log.stat().st_size)
    there, _ = found(folder / JOURNAL, range(3000))
    assert there == {number: blob(number) for number in range(len(there))}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("whole") / JOURNAL, range(200))


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 7)), min_size=1, max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_flipped_bits_never_give_another_result(whole: Path, tmp_path: Path, flips: list[tuple[int, int]]):
    path = tmp_path / f"{time.monotonic_ns()}.sqlite"
    data = bytearray(whole.read_bytes())
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    path.touch(0o600)
    path.write_bytes(data)
    told: list[str] = []
    try:
        there, _ = found(path, range(200), told.append)
    except InputError:  # as where the number of its format is hit
        return
    assert all(content == blob(number) for number, content in there.items())
    # And it is good again.
    filled(path, range(300, 310))
    assert found(path, range(300, 310))[0] == {number: blob(number) for number in range(300, 310)}
    path.unlink()


def test_flipped_row_costs_that_row_and_is_counted(whole: Path, tmp_path: Path):
    path = tmp_path / JOURNAL
    path.touch(0o600)
    data = whole.read_bytes()
    place = data.index(bytes([26]) * 100)  # of row 26
    path.write_bytes(data[:place] + b"\x99" + data[place + 1 :])
    there, lost = found(path, range(200))
    assert (lost, sorted(set(range(200)) - there.keys())) == (1, [26])


def test_missing_rows_are_counted(whole: Path, tmp_path: Path):
    path = tmp_path / JOURNAL
    path.touch(0o600)
    path.write_bytes(whole.read_bytes())
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM results WHERE rowid IN (3, 4, 50)")
    database.close()
    there, lost = found(path, range(200))
    assert (lost, len(there)) == (3, 197)


def test_damaged_pages_cost_what_is_on_them(whole: Path, tmp_path: Path):
    path = tmp_path / JOURNAL
    path.touch(0o600)
    data = bytearray(whole.read_bytes())
    data[20 * 4096 : 21 * 4096] = os.urandom(4096)
    path.write_bytes(data)
    there, _lost = found(path, range(200))
    assert all(content == blob(number) for number, content in there.items())
    assert 100 < len(there) < 200


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000, bytes(100_000)], ids=["empty", "text", "zeros"])
def test_what_is_no_database_is_begun_anew(tmp_path: Path, content: bytes):
    path = tmp_path / JOURNAL
    path.touch(0o600)
    path.write_bytes(content)
    told: list[str] = []
    assert found(path, range(5), told.append) == ({}, 0)
    assert len(told) == bool(content)
    filled(path, range(5))
    assert len(found(path, range(5))[0]) == 5


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        Store(path, LIMIT, print)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_newer_format_is_refused(tmp_path: Path):
    path = filled(tmp_path / JOURNAL, range(3))
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    before = path.read_bytes()
    assert f"has format {FORMAT + 1}, and this tritoncluster knows {FORMAT}" in refused(path)
    assert path.read_bytes() == before


def test_database_of_somebody_else_is_refused(tmp_path: Path):
    path = tmp_path / JOURNAL
    path.touch(0o600)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()
    assert "no journal of tritoncluster" in refused(path)


def test_journal_that_others_can_write_is_refused(tmp_path: Path):
    path = filled(tmp_path / JOURNAL, range(3))
    path.chmod(0o622)
    assert "can be written by others, and what is in it is run" in refused(path)


def test_journal_in_use_is_refused(tmp_path: Path):
    store = Store(tmp_path / JOURNAL, LIMIT, print)
    assert "is in use by another run" in refused(tmp_path / JOURNAL)
    store.close()


def test_past_its_limit_nothing_more_is_kept(tmp_path: Path):
    told: list[str] = []
    store = Store(tmp_path / JOURNAL, 500_000, told.append)
    for number in range(1000):
        store.keep(key(number), 1000, lambda: bytes(1000))
    store.close()
    assert len(told) == 1
    assert "takes no more results: it has reached its limit" in told[0]
    assert 100_000 < (tmp_path / JOURNAL).stat().st_size < 700_000


def test_rows_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "MAX_ROWS", 50)
    told: list[str] = []
    store = Store(tmp_path / JOURNAL, LIMIT, told.append)
    for number in range(100):
        store.keep(key(number), 20, lambda: bytes(20))
    store.close()
    assert len(told) == 1
    assert len(found(tmp_path / JOURNAL, range(100))[0]) == 50


def test_slow_disk_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "WAITING_BYTES", 100_000)
    monkeypatch.setattr(stores, "COMMIT_EVERY", 3600.0)
    told: list[str] = []
    store = Store(tmp_path / JOURNAL, LIMIT, told.append)
    for number in range(100):
        store.keep(key(number), 10_000, lambda: bytes(10_000))
    store.close()
    assert len(told) == 1
    assert "the disk is slower than results come" in told[0]


FULL = """
import resource, sys
from pathlib import Path
from tritoncluster.journal.store import Store
path = Path(sys.argv[1])
store = Store(path, 1 << 30, lambda line: print("told:", line))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for number in range(100):
    store.keep(number.to_bytes(16, "big"), 10_000, lambda number=number: bytes([number]) * 10_000)
    if number == 10:
        import time
        while store._committed < 0:
            time.sleep(0.01)
store.close()
print("goes on")
"""


def test_full_disk_ends_the_keeping_alone(tmp_path: Path):
    path = tmp_path / JOURNAL
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert done.stdout.count("told:") == 1
    assert "takes no more results: " in done.stdout
    assert done.stdout.endswith("goes on\n")
    assert done.stderr == ""
    there = found(path, range(100))[0]
    assert 0 < len(there) < 100
    assert all(content == bytes([number]) * 10_000 for number, content in there.items())


def test_full_disk_leaves_no_half_of_a_result(tmp_path: Path):
    from tritoncluster.cli import output

    output.write(tmp_path, {"job": "first"}, lambda path: path.write_text("page"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            output.write(tmp_path, {"job": "x" * 5000}, lambda path: path.write_text("other"))
        with pytest.raises(OSError, match="File too large"):
            output.write(tmp_path, {"job": "second"}, lambda path: path.write_text("x" * 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / output.RESULT).read_text() == '{\n  "job": "second"\n}\n'
    assert (tmp_path / output.REPORT).read_text() == "page"
    assert len(list(tmp_path.iterdir())) == 2


def test_commits_are_a_second_apart(tmp_path: Path):
    """And close does not wait for the next one."""
    store = Store(tmp_path / JOURNAL, LIMIT, print)
    times = set()
    begin = time.monotonic()
    for number in range(10_000):
        store.keep(key(number), 20, lambda: bytes(20))
        times.add(store._committed)
        time.sleep(0.001)
        if time.monotonic() > begin + 3:
            break
    times.add(store._committed)
    ordered = sorted(each for each in times if each > 0)
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(ordered))
    assert len(ordered) > 1
    store.close()


# What a run sees of it.


def test_pieces_with_the_same_fingerprint_are_kept_apart(tmp_path: Path):
    journal = Journal(tmp_path / JOURNAL, tell=print)
    journal.begin()
    keys = [journal.key(b"f" * 16) for _ in range(3)]
    assert len(set(keys)) == 3
    for number, each in enumerate(keys):
        journal.keep(each, 1, lambda number=number: bytes([number]))
    journal.close(complete=True)
    told: list[str] = []
    again = Journal(tmp_path / JOURNAL, tell=told.append)
    again.begin()
    assert [again.key(b"f" * 16) for _ in range(3)] == keys
    assert [again.find([each]) for each in keys] == [1, 1, 1]
    assert again.load(keys[2]) == b"\x02"
    again.close(complete=True)
    assert told == [f"3 of 3 results came from {tmp_path / JOURNAL}"]


def test_nothing_is_made_before_there_is_anything_to_keep(tmp_path: Path):
    Journal(tmp_path / "folder" / JOURNAL, tell=print).close(complete=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_kept_is_told_once(tmp_path: Path):
    told: list[str] = []
    journal = Journal(tmp_path / JOURNAL, tell=told.append)
    for _ in range(3):
        journal.doubt(5, "a reason")
    assert journal.doubtful == 15
    assert told == ["some results are not kept, and are computed again when this is resumed: a reason"]
