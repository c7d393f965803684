from pathlib import Path

import pytest
from command import tritoncluster
from distributed import Client, Worker
from remote import remote

from tritoncluster.errors import InputError
from tritoncluster.submit import FOLDER, SubmittedFiles, _scheduler_folder, read_files, run_script

SCRIPT = """
import sys
from pathlib import Path
from distributed import Client, Worker
import submitted_helper
from tritoncluster.submit import local_path

def work(number):
    import submitted_helper
    return submitted_helper.double(number) + len(local_path("data.txt").read_text())

client = Client()
Path(sys.argv[1]).write_text(f"{client.gather(client.map(work, range(3)))} {sys.argv[2:]}")
assert local_path("data.txt").read_text() == "four"
print("the script's own output")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "submitted_helper.py").write_text("def double(number):\n    return 2 * number\n")
    (tmp_path / "data.txt").write_text("four")
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def submitted_on_workers(client: Client) -> set[str]:
    def listing(dask_worker: Worker) -> list[str]:
        return [path.name for path in (Path(dask_worker.local_directory) / FOLDER).iterdir()]

    return {name for names in client.run(listing).values() for name in names if not name.startswith("__")}


def test_script_finds_cluster_modules_and_data(client: Client, script: Path, capsys: pytest.CaptureFixture[str]):
    files = read_files([script.parent / "submitted_helper.py", script.parent / "data.txt"])
    run_script(client, script, [str(script.parent / "out"), "--flag"], files)
    assert (script.parent / "out").read_text() == "[4, 6, 8] ['--flag']"
    assert capsys.readouterr().out == "the script's own output\n"
    assert submitted_on_workers(client) == set()
    assert client.status == "running"


def test_modules_reach_a_scheduler_elsewhere(tmp_path: Path, script: Path):
    script.write_text(
        "from distributed import Client\n"
        "import submitted_helper\n"
        "client = Client()\n"
        "print(client.gather(client.map(submitted_helper.double, range(3))))\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with remote(tmp_path / "cluster") as cluster:
        words = ["submit", "--with", "../submitted_helper.py", "../script.py"]
        for _ in range(2):
            done = tritoncluster(elsewhere, "--scheduler", cluster.address, *words)
            assert done.stdout == "[0, 2, 4]\n", done.stderr
        with Client(cluster.address, set_as_default=False) as client:
            assert client.run_on_scheduler(lambda: list(_scheduler_folder().glob("*.py"))) == []


def test_different_files_of_a_name_are_refused(client: Client):
    first, same, other = (SubmittedFiles({"notes.txt": content}) for content in (b"a", b"a", b"b"))
    client.register_plugin(first)
    client.register_plugin(same)
    with pytest.raises(InputError, match=r"another script on this cluster has a different notes\.txt; rename yours"):
        client.register_plugin(other)
    client.unregister_worker_plugin(other.name)
    client.unregister_worker_plugin(first.name)
    assert submitted_on_workers(client) == {"notes.txt"}
    client.unregister_worker_plugin(same.name)
    assert submitted_on_workers(client) == set()


def test_files_that_can_not_be_sent(tmp_path: Path):
    with pytest.raises(InputError, match=r"--with .*none\.py can't be read: No such file"):
        read_files([tmp_path / "none.py"])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").touch()
    with pytest.raises(InputError, match=r"another file called same\.py; rename one"):
        read_files([tmp_path / "one" / "same.py", tmp_path / "two" / "same.py"])


def test_error_of_the_script_is_its_own(script: Path):
    # From another folder: embedded workers look for modules where the command was given.
    elsewhere = script.parent / "elsewhere"
    elsewhere.mkdir()
    done = tritoncluster(elsewhere, "submit", "--workers", "1", "../script.py", "out")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'submitted_helper'" in done.stderr
    assert "add --with ../submitted_helper.py" in done.stderr
    assert "runpy" not in done.stderr


def test_status_is_the_scripts(tmp_path: Path):
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
    done = tritoncluster(tmp_path, "submit", "--workers", "1", "script.py", "--workers", "3")
    assert done.returncode == 7
    assert done.stdout == "['--workers', '3']\n"
