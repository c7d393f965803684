"""What comes with a job, from anybody, and what is fetched of it."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, dictionaries, text

from tritoncluster.errors import InputError
from tritoncluster.service.model import Request
from tritoncluster.service.upload import FILES, checked_path, fetched, open_plain, pack, unpack

REQUEST = Request("submit", ("--", "a.py"), "submit a.py")


def member(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], request: object = None) -> Path:
    first = member("job.json", json.dumps(request or REQUEST.to_json()).encode())
    with tarfile.open(path, "w") as tar:
        for info, content in [first, *members]:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("/etc/passwd")], "is no path"),
        ([member("files/../../x")], "is no path"),
        ([member("files/..")], "is no path"),
        ([member("../x")], "is no path"),
        ([member("x")], "is no path"),
        ([member("files")], "is no path"),
        ([member("files//x")], "is no path"),
        ([member("files/./x")], "is no path"),
        ([member("files/a\\b")], "is no path"),
        ([member("files/a\x1b[2J")], "is no path"),
        ([member("files/" + "a/" * 50 + "b")], "too long a path"),
        ([member("files/link", b"", type=tarfile.SYMTYPE, linkname="/etc")], "no plain file"),
        ([member("files/link", b"", type=tarfile.LNKTYPE, linkname="files/nothing")], "no plain file"),
        ([member("files/pipe", b"", type=tarfile.FIFOTYPE)], "no plain file"),
        ([member("files/disk", b"", type=tarfile.BLKTYPE)], "no plain file"),
        ([member("files/a"), member("files/a")], "two files"),
        ([member("files/a"), member("files/a/b")], "two files"),
        ([member("files/a", b"x" * 2000)], "too large"),
    ],
)
def test_what_is_no_plain_file_of_its_own_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    folder = tmp_path / "below" / "job"
    with pytest.raises(InputError, match=message) as caught:
        unpack(archive(tmp_path / "tar", *members), folder, 1000)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    # Nothing is written but below the folder.
    assert {path.name for path in tmp_path.iterdir()} == {"tar", "below"}
    assert {path.name for path in folder.parent.iterdir()} == {"job"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rm"},
        {"words": []},
        {"words": ["a\0b"]},
        {"words": "forest"},
        {"priority": "high"},
        {"max_time": -1},
        {"retries": 10**9},
        {"title": None},
    ],
)
def test_what_is_no_request_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = archive(tmp_path / "tar", request=REQUEST.to_json() | change)
    with pytest.raises(InputError, match="no job that this service knows"):
        unpack(path, tmp_path / "job", 1000)


@pytest.mark.parametrize("content", [b"", b"x" * 1000, pack(REQUEST, {})[:700], b"\0" * 10240])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tar").write_bytes(content)
    with pytest.raises(InputError):
        unpack(tmp_path / "tar", tmp_path / "job", 1000)


names = text(min_size=1, max_size=30).filter(lambda name: _good(name) and name[0] != "@" and len(name.encode()) < 200)


def _good(name: str) -> bool:
    try:
        return "/" not in name and bool(checked_path(f"{FILES}/{name}"))
    except (InputError, UnicodeError):
        return False


@given(files=dictionaries(names, binary(max_size=2000), max_size=5))
@settings(max_examples=30)
def test_what_is_packed_comes_out_again(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("upload")
    packed = pack(REQUEST, files)
    assert packed == pack(REQUEST, dict(reversed(files.items())))
    (folder / "tar").write_bytes(packed)
    assert unpack(folder / "tar", folder / "job", 10**6) == REQUEST
    assert {path.name: path.read_bytes() for path in (folder / "job" / FILES).iterdir()} == files


def test_links_of_a_job_lead_nowhere(tmp_path: Path) -> None:
    other, job = tmp_path / "other", tmp_path / "job"
    other.mkdir()
    (job / "files").mkdir(parents=True)
    (other / "secret").write_text("secret")
    (job / "log.txt").write_text("mine")
    (job / "report.html").symlink_to(other / "secret")
    (job / "files/folder").symlink_to(other)
    os.mkfifo(job / "files/pipe")
    found = {}
    for name, file in fetched(job, lambda _: True):
        with file:
            found[name] = file.read()
    assert found == {"log.txt": b"mine"}
    assert open_plain(job / "report.html") is None
    assert open_plain(job / "files/pipe") is None


def test_lists_of_files_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritoncluster.service.upload.MOST_FILES", 3)
    members = [member(f"files/{number}") for number in range(4)]
    unpack(archive(tmp_path / "few", *members[:3]), tmp_path / "job", 1000)
    with pytest.raises(InputError, match="too many"):
        unpack(archive(tmp_path / "many", *members), tmp_path / "other", 1000)
