"""What a backup on the controller has: backup.py among the filters."""

import tarfile

import pytest
from backup import kind


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["jobs.sqlite", "jobs/abcde/result.json"], "jobs"),
        (["notebooks", "notebooks/ada/first.ipynb"], "notebooks"),
        (["other/jobs.sqlite"], ""),
        ([], ""),
    ],
)
def test_a_backup_is_known_by_what_is_in_it(tmp_path, names, found):
    with tarfile.open(tmp_path / "any.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    assert kind(str(tmp_path / "any.tar")) == found


def test_what_is_no_backup_is_none(tmp_path):
    (tmp_path / "text").write_text("jobs.sqlite")
    for name in ("text", "nothing", "."):
        assert kind(str(tmp_path / name)) == ""
