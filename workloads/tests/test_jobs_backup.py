"""All jobs in one file, and back, also onto another host."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_service import Service, service, wait_for
from remote import remote

from tritoncluster.errors import InputError
from tritoncluster.service.backup import restore


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with remote(tmp_path_factory.mktemp("cluster"), 1) as cluster:
        yield cluster.address


def backup(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tritoncluster.service.backup", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def listed(jobs: Service) -> dict[str, str]:
    return {job["id"]: job["state"] for job in json.loads(jobs.command("jobs", "--json").stdout)}


def test_what_is_saved_while_jobs_run_goes_on_elsewhere(tmp_path: Path, scheduler: str) -> None:
    go, file = tmp_path / "go", tmp_path / "jobs.tar"
    step = (
        f"import os, time\nprint('began', flush=True)\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.05)\n"
    )
    with service(tmp_path / "old", scheduler, at_once=1) as old:
        done = old.submit("open('kept.txt', 'w').write('mine')")
        assert old.command("jobs", "wait", done).returncode == 0
        running, waiting, cancelled = (old.submit(step) for _ in range(3))
        assert old.command("jobs", "cancel", cancelled).returncode == 0
        wait_for(lambda: "began" in old.command("jobs", "logs", running).stdout)
        said = backup("save", old.store, file)
        assert (said.returncode, said.stdout) == (0, "4 jobs saved\n"), said.stderr
        # Where a service runs, nothing is restored.
        said = backup("restore", old.store, file)
        assert said.returncode == 1
        assert said.stderr.startswith("jobs: another jobs service has")
    with service(tmp_path / "new", scheduler, at_once=1) as new:
        before = new.submit("print('of before')")
        assert new.command("jobs", "wait", before).returncode == 0
        new.stop()
        assert backup("restore", new.store, file).stdout == "4 jobs restored\n"
        new.start()
        assert listed(new) == {running: "running", waiting: "waiting", done: "finished", cancelled: "cancelled"}
        go.touch()
        for job in (running, waiting):
            assert new.command("jobs", "wait", job).returncode == 0
        assert new.command("jobs", "fetch", done, folder=tmp_path).returncode == 0
        assert (tmp_path / "results" / done / "files/kept.txt").read_text() == "mine"
        assert (new.store / "replaced/jobs" / before / "log.txt").exists()


def archive(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"jobs.sqlite": b"this is no database, by far no database at all" * 10},
        {"jobs.sqlite": b"", "../evil": b"x"},
        {"jobs.sqlite": b"", "jobs/abcde/../../evil": b"x"},
        {"jobs.sqlite": b"", "/evil": b"x"},
        {"jobs.sqlite": b"", "name": b"x"},
    ],
)
def test_what_is_no_backup_is_refused_and_changes_nothing(tmp_path: Path, members: dict[str, bytes]) -> None:
    base = tmp_path / "base"
    (base / "jobs/abcde").mkdir(parents=True)
    (base / "jobs.sqlite").write_text("kept")
    with pytest.raises(InputError, match="is no backup of jobs"):
        restore(base, archive(tmp_path / "file.tar", **members))
    assert (base / "jobs.sqlite").read_text() == "kept"
    assert (base / "jobs/abcde").exists()
    assert list((base / "incoming").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"base", "file.tar"}


def test_what_is_no_file_or_no_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for words in (["restore", tmp_path, tmp_path / "text"], ["save", tmp_path, tmp_path / "x"], ["save"]):
        said = backup(*words)
        assert said.returncode == 1
        assert said.stderr.startswith("jobs: ")
        assert said.stderr.count("\n") == 1
