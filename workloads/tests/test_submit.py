import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.config
import pytest
from command import COMMAND, tritoncluster
from distributed import Client, Worker
from distributed.client import _set_global_client
from remote import Remote, remote

from tritoncluster.cluster import connect
from tritoncluster.errors import ClusterLostError, InputError
from tritoncluster.submit import advice, prepare, run_program
from tritoncluster.submitted import FOLDER, _scheduler_folder

RAN = "import sys\nfrom pathlib import Path\n{}\nPath(sys.argv[1]).write_text('ran')\n"

SCRIPT = """
import sys
from pathlib import Path
from distributed import Client
import submitted_helper
from tritoncluster.submit import local_path

class Answer:
    def __init__(self, value):
        self.value = value

def work(number):
    import submitted_later
    return Answer(submitted_later.double(number) + len(local_path("data.txt").read_text()))

client = Client()
answers = client.gather(client.map(work, range(3)))
assert isinstance(answers[0], Answer)
direct = client.gather(client.map(submitted_helper.three, range(3)))
Path(sys.argv[1]).write_text(f"{[answer.value for answer in answers]} {direct} {sys.argv[2:]}")
assert local_path("data.txt").read_text() == "four"
assert local_path("folder/below/data.txt").exists()
assert client.submit(lambda: local_path("folder/below/data.txt").read_text()).result() == "below"
print(__name__, Path(__file__).name, Path(__file__).is_absolute())
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A cluster that knows nothing of the tests' folders."""
    with remote(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def there(elsewhere: Remote) -> Iterator[Client]:
    with dask.config.set({"scheduler-address": elsewhere.address}), connect() as client:
        yield client


@pytest.fixture(params=["embedded", "elsewhere"])
def cluster(request: pytest.FixtureRequest) -> Client:
    return request.getfixturevalue({"embedded": "client", "elsewhere": "there"}[request.param])


@pytest.fixture
def told() -> list[str]:
    return []


def write(folder: Path, **files: str) -> Path:
    """Write modules, and give the script's path."""
    folder.mkdir(exist_ok=True)
    for name, code in files.items():
        (folder / f"{name}.py").write_text(code)
    return folder / "script.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "data.txt").write_text("four")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "data.txt").write_text("below")
    (tmp_path / "submitted_package" / "within").mkdir(parents=True)
    (tmp_path / "submitted_package" / "__init__.py").touch()
    (tmp_path / "submitted_package" / "within" / "__init__.py").write_text("from .numbers import THREE\n")
    (tmp_path / "submitted_package" / "within" / "numbers.py").write_text("THREE = 3\n")
    return write(
        tmp_path,
        script=SCRIPT,
        submitted_helper="from submitted_package.within import THREE\ndef three(_number):\n    return THREE\n",
        submitted_later="def double(number):\n    return 2 * number\n",
    )


def on_workers(client: Client) -> set[str]:
    def listing(dask_worker: Worker) -> list[str]:
        folder = Path(dask_worker.local_directory) / FOLDER
        return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]

    return {name for names in client.run(listing).values() for name in names}


def test_script_finds_cluster_modules_packages_and_data(
    cluster: Client, script: Path, capsys: pytest.CaptureFixture[str], told: list[str]
):
    program = prepare(str(script), [script.parent / "data.txt", script.parent / "folder"])
    run_program(cluster, program, [str(script.parent / "out"), "--flag"], told.append)
    assert (script.parent / "out").read_text() == "[4, 6, 8] [3, 3, 3] ['--flag']"
    assert capsys.readouterr().out == "__main__ script.py True\n"
    assert told == []
    assert on_workers(cluster) == set()
    assert cluster.run_on_scheduler(lambda: list(_scheduler_folder().glob("*/*"))) == []
    assert cluster.status == "running"


def test_next_script_never_meets_the_modules_of_the_one_before(cluster: Client, tmp_path: Path, told: list[str]):
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom distributed import Client\nimport submitted_value\n"
        "client = Client()\n"
        "def lazily(_):\n    import submitted_value\n    return submitted_value.value(0)\n"
        "answers = client.gather([*client.map(submitted_value.value, range(2), pure=False),"
        " client.submit(lazily, 1, pure=False)])\n"
        "Path(sys.argv[1]).write_text(json.dumps(answers))\n"
    )
    for number in range(3):
        module = f"VALUE = {number}\ndef value(_):\n    return VALUE\n"
        script = write(tmp_path / str(number), script=code, submitted_value=module)
        run_program(cluster, prepare(str(script)), [str(tmp_path / "out")], told.append)
        assert json.loads((tmp_path / "out").read_text()) == [number] * 3


def test_module_found_only_when_it_is_imported_goes_too(there: Client, tmp_path: Path, told: list[str]):
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", submitted_hidden="def negative(number):\n    return -number\n")
    script = write(
        tmp_path,
        submitted_plugin="def tenfold(number):\n    return 10 * number\n",
        script="import importlib, sys\nfrom pathlib import Path\nfrom distributed import Client\n"
        "sys.path.insert(0, str(Path(__file__).parent / 'library'))\n"
        "import submitted_hidden\nplugin = importlib.import_module('submitted_' + 'plugin')\n"
        "client = Client()\n"
        "answers = client.gather([client.submit(submitted_hidden.negative, 1), client.submit(plugin.tenfold, 1)])\n"
        "Path(sys.argv[1]).write_text(str(answers))\n",
    )
    run_program(there, prepare(str(script)), [str(tmp_path / "out")], told.append)
    assert (tmp_path / "out").read_text() == "[-1, 10]"


def test_workers_keep_pythons_own_modules(there: Client, tmp_path: Path, told: list[str]):
    script = write(tmp_path, queue="", submitted_own="def later():\n    import queue\n", script="import submitted_own")
    with pytest.raises(InputError, match=r"/queue\.py has the name of a module of Python's own; rename it"):
        prepare(str(script))
    # Beside the script, but not a part of it.
    script.write_text(RAN.format(""))
    with pytest.raises(InputError, match=r"--with .*queue\.py has the name of a module of Python's own; rename it"):
        prepare(str(script), [tmp_path / "queue.py"])
    script.write_text(RAN.format("from distributed import Client; import os\nClient().run(os.getpid)"))
    run_program(there, prepare(str(script)), [str(tmp_path / "out")], told.append)
    assert (tmp_path / "out").read_text() == "ran"


def test_module_that_the_workers_have_is_not_replaced(there: Client, tmp_path: Path, told: list[str]):
    folder = tmp_path / "installed"

    def install() -> None:
        folder.mkdir()
        (folder / "submitted_installed.py").touch()
        sys.path.append(str(folder))

    def uninstall() -> None:
        sys.path.remove(str(folder))

    script = write(tmp_path, script="import submitted_installed", submitted_installed="")
    there.run(install)
    try:
        with pytest.raises(InputError, match=r"has a module called submitted_installed of its own; rename yours"):
            run_program(there, prepare(str(script)), [], told.append)
    finally:
        there.run(uninstall)
    assert on_workers(there) == set()


WAIT = """
import sys, time
from pathlib import Path
from distributed import Client
import submitted_shared
client = Client()
print(client.submit(submitted_shared.value).result(), flush=True)
sys.stdin.readline()
print(client.submit(submitted_shared.value, pure=False).result(), flush=True)
"""


def test_scripts_at_the_same_time_share_what_is_equal_and_refuse_what_is_not(
    elsewhere: Remote, there: Client, tmp_path: Path, told: list[str]
):
    value = "def value():\n    return 'first'\n"
    script = write(tmp_path / "one", script=WAIT, submitted_shared=value)
    code = "import submitted_shared\n"
    other = write(tmp_path / "two", script=code, submitted_shared=value.replace("first", "second"))
    same = write(tmp_path / "three", script=code, submitted_shared=value)
    with started(elsewhere, script) as first:
        assert first.stdout.readline() == "first\n"
        with pytest.raises(
            InputError, match=r"submitted_shared\.py: another script on this cluster has a different submitted_shared"
        ):
            run_program(there, prepare(str(other)), [], told.append)
        run_program(there, prepare(str(same)), [], told.append)
        # What was removed was not the first one's.
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline() == "first\n"
        assert first.wait(60) == 0
    run_program(there, prepare(str(other)), [], told.append)


@contextmanager
def started(cluster: Remote, script: Path) -> Iterator[subprocess.Popen[str]]:
    """Submit a script, and kill it with the context."""
    words = [*COMMAND, "--scheduler", cluster.address, "submit", str(script)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_files_of_a_killed_script_go_with_it(elsewhere: Remote, there: Client, tmp_path: Path, told: list[str]):
    script = write(tmp_path / "one", script=WAIT, submitted_shared="def value(): return 1\n")
    with started(elsewhere, script) as killed:
        assert killed.stdout.readline() == "1\n"
        assert on_workers(there) == {"submitted_shared.py"}
    there.sync(wait_until_alone, there)
    other = write(tmp_path / "two", script="import submitted_shared", submitted_shared="def value(): return 2\n")
    run_program(there, prepare(str(other)), [], told.append)
    assert on_workers(there) == set()


async def wait_until_alone(client: Client) -> None:
    import asyncio

    for _ in range(300):
        if (
            await client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.clients)) <= 2
        ):  # and "fire-and-forget"
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the killed script's client is still there")


def test_worker_that_does_not_answer_stops_nobody(
    client: Client, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tritoncluster.submit.PATIENCE", 1.0)
    script = write(tmp_path, script=RAN.format("import submitted_small"), submitted_small="")
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGSTOP)
    try:
        run_program(client, prepare(str(script)), [str(tmp_path / "out")], told.append)
        assert (tmp_path / "out").read_text() == "ran"
        assert len(told) == 1
        assert "did not answer within 1 s, and will get submitted_small.py when it does" in told[0]
    finally:
        os.kill(pid, signal.SIGCONT)


OTHERS = """
import asyncio, sys
from pathlib import Path
from distributed import Client, LocalCluster, get_client
def pids(client):
    import os
    return set(client.run(os.getpid).values())
ours = pids(get_client())
with Client() as made:
    assert get_client() is Client.current() is made
    made.gather(Client.current().map(str, range(3)))
assert pids(Client(processes=False)) == ours
assert pids(Client(n_workers=4, threads_per_worker=2)) == ours
with LocalCluster(n_workers=3) as cluster:
    cluster.wait_for_workers(3)
    assert pids(Client(cluster)) == ours
    assert pids(cluster.get_client()) == ours
assert pids(Client(get_client().scheduler.address)) == ours
async def main():
    async with Client(asynchronous=True, n_workers=2) as client:
        assert await client.submit(sum, [1, 2]) == 3
asyncio.run(main())
Client().shutdown()
Path(sys.argv[1]).write_text("ran")
"""


def test_client_is_the_cluster_whatever_it_is_told(cluster: Client, tmp_path: Path, told: list[str]):
    # The one that was made last is Dask's current client; where a script is submitted, it is the only one.
    _set_global_client(cluster)
    run_program(cluster, prepare(str(write(tmp_path, script=OTHERS))), [str(tmp_path / "out")], told.append)
    assert (tmp_path / "out").read_text() == "ran"
    assert told == [
        "Client uses the cluster that is there: processes= is not used",
        "Client uses the cluster that is there: n_workers=, threads_per_worker= is not used",
        "LocalCluster starts no workers: its clients use the cluster that is there",
        "Client uses the cluster that is there: n_workers= is not used",
        "Client.shutdown() closes the client alone: the cluster is not the script's",
    ]
    # The process is as it was.
    assert cluster.submit(sum, [1, 2]).result() == 3
    with pytest.raises(ValueError, match="nonsense"), Client(cluster.scheduler.address, nonsense=1):
        pass


def test_what_can_not_be_sent(tmp_path: Path):
    script = write(tmp_path, script="")
    with pytest.raises(InputError, match=r"--with .*none\.py can't be read: No such file"):
        prepare(str(script), [tmp_path / "none.py"])
    for folder in ("one", "two", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "same.py").touch()
    with pytest.raises(InputError, match=r"another file called same\.py; rename one"):
        prepare(str(script), [tmp_path / "one" / "same.py", tmp_path / "two" / "same.py"])
    with pytest.raises(InputError, match=r"--with .*empty: there is no file in it"):
        prepare(str(script), [tmp_path / "empty"])
    (tmp_path / "book.ipynb").touch()
    with pytest.raises(InputError, match=r"book\.ipynb can't be read as a notebook; open it"):
        prepare(str(tmp_path / "book.ipynb"))


def test_advice_for_a_module_that_the_cluster_lacks(there: Client, tmp_path: Path):
    program = prepare(str(write(tmp_path, script="import os, numpy, nowhere_to_be_found", beside="")))
    path = os.path.relpath(tmp_path / "beside.py")
    expected = {
        ModuleNotFoundError(name="beside"): f"the workers do not have beside; add --with {path}",
        ModuleNotFoundError(name="sklearn.svm"): "the workers do not have sklearn, which is",
        ModuleNotFoundError(name="nowhere_to_be_found.x"): "there is no nowhere_to_be_found",
        # What the scheduler says of a graph that it can't unpickle.
        RuntimeError("Error during deserialization of the task graph."): "there is no nowhere_to_be_found",
    }
    for error, line in expected.items():
        assert advice(there, program, error).startswith(line)
    assert advice(there, program, ValueError()) == ""


@pytest.mark.parametrize(
    ("code", "status", "stdout", "stderr"),
    [
        ("import sys; print(sys.argv[1:]); sys.exit(7)", 7, "['--workers', '3']\n", ""),
        ("raise SystemExit('enough')", 1, "", "enough\n"),
        ("import os; os._exit(5)", 5, "", ""),
        ("def f():\n    1 / 0\nf()", 1, "", "in f\n    1 / 0"),
        ("def f(:\n", 1, "", "SyntaxError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "", "tritoncluster: the program was killed"),
        ("import ctypes; ctypes.string_at(0)", 139, "", "tritoncluster: the program was ended by SIGSEGV"),
        ("from . import other", 1, "", "ImportError: attempted relative import"),
    ],
)
def test_status_and_errors_are_the_scripts(
    elsewhere: Remote, tmp_path: Path, code: str, status: int, stdout: str, stderr: str
):
    write(tmp_path, script=code)
    done = tritoncluster(tmp_path, "--scheduler", elsewhere.address, "submit", "script.py", "--workers", "3")
    assert done.returncode == status, done.stderr
    assert done.stdout == stdout
    assert stderr in done.stderr
    assert "run_program" not in done.stderr


RESTARTS = """
print("ran as", __name__, flush=True)
from distributed import Client
client = Client()
client.restart()
print(client.submit(sum, [1, 2, 3]).result())
"""


def test_body_runs_once_whatever_restarts(tmp_path: Path):
    write(tmp_path, script=RESTARTS)
    done = tritoncluster(tmp_path, "submit", "--workers", "1", "script.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran as __main__\n6\n"


LOST = """
import time
from distributed import Client
waiting = Client().submit(time.sleep, 100)
print("started", flush=True)
waiting.result()
"""


def test_scheduler_that_goes_away_is_one_line(tmp_path: Path):
    script = write(tmp_path, script=LOST)
    with remote(tmp_path / "cluster") as doomed:
        words = [*COMMAND, "--scheduler", doomed.address, "submit", str(script)]
        environment = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2 s"}
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout.readline() == "started\n"
            doomed.scheduler.kill()
            _, told = process.communicate(timeout=100)
    assert process.returncode == 1
    assert told.splitlines()[2:] == [f"tritoncluster: {ClusterLostError('futures')}"]
