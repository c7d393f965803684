"""Notebooks as jobs: real kernels on a real cluster."""

import ast
import json
import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command import tritoncluster
from distributed import Client

from tritoncluster import notebooks
from tritoncluster.errors import InputError
from tritoncluster.kernel import Submitted
from tritoncluster.service import api
from tritoncluster.service.model import Request
from tritoncluster.submit import prepare, sent_along

#: For a kernel that keeps nothing.
NOTHING = Submitted(None, 0, "", [])


def write(path: Path, *cells: str, **metadata: Any) -> Path:
    """Write a notebook of these cells of code, and one of text."""
    code = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "source": cell,
            "outputs": [],
            "execution_count": None,
        }
        for number, cell in enumerate(cells)
    ]
    text = {"cell_type": "markdown", "id": "text", "metadata": {}, "source": "# What it is"}
    path.write_text(json.dumps({"cells": [text, *code], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def printed(path: Path) -> list[str]:
    """Give what the cells of code have printed."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return [
        "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
        for cell in cells
    ]


COMPUTES = """
import os, time
import joblib
from helpers import triple
from tritoncluster.submit import local_path

def call(number):
    time.sleep(0.01)
    open(f"{made}/{number}-{os.getpid()}-{time.time_ns()}", "x")
    return triple(number)

with joblib.parallel_config("balanced"):
    print(sum(joblib.Parallel()(joblib.delayed(call)(number) for number in range(100))))
"""
READS = """
%time added = int(local_path("added.txt").read_text())
from distributed import Client
client = Client(n_workers=7)
print(client.submit(triple, added).result(), len(client.scheduler_info()["workers"]))
!echo of the shell
"""


@pytest.mark.slow
def test_a_notebook_that_failed_goes_on_and_its_page_shows_all(tmp_path: Path):
    made = tmp_path / "made"
    made.mkdir()
    (tmp_path / "helpers.py").write_text("def triple(number):\n    return 3 * number\n")
    (tmp_path / "added.txt").write_text("none")
    path = write(tmp_path / "my work.ipynb", f"made = {str(made)!r}", COMPUTES, READS)
    before = path.read_bytes()
    words = ["submit", "--workers", "2", "--with", "added.txt"]
    failed = tritoncluster(tmp_path, *words, path.name)
    assert failed.returncode == 1, failed.stderr
    assert failed.stdout == ""
    last = failed.stderr.splitlines()[-1]
    found = re.fullmatch(r"tritoncluster: cell 3 failed: ValueError: .*'none'; go on with '(tritoncluster .*)'", last)
    assert found, failed.stderr
    again = shlex.split(found[1])[1:]
    folder = tmp_path / again[again.index("--resume") + 1]
    assert "invalid literal for int()" in (folder / "report.html").read_text()
    assert printed(folder / path.name)[:2] == ["", "14850\n"]
    # A call that is late is repeated by the other worker.
    assert {call.name.split("-")[0] for call in made.iterdir()} == {str(number) for number in range(100)}

    (tmp_path / "added.txt").write_text("14")
    done = tritoncluster(tmp_path, *again)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 cells" in done.stderr
    assert "Client uses the cluster that is there: n_workers= is not used" in done.stderr
    assert path.read_bytes() == before
    output = printed(folder / path.name)
    assert output[1] == "14850\n"
    assert output[2].splitlines()[-2:] == ["42 2", "of the shell"]
    page = (folder / "report.html").read_text()
    assert "What it is" in page
    assert not re.search(r"(src|href)=.?https?:|import [^;]{0,80}https?:", page)


def executed(path: Path, client: Client, submitted: Submitted = NOTHING) -> notebooks.Executed:
    """Run a notebook on a cluster that is there."""
    environment = {"DASK_SCHEDULER_ADDRESS": client.scheduler.address}
    return notebooks.execute(path, environment, submitted.leave, lambda _: None, lambda *_: None)


def test_files_that_were_edited_are_computed_anew(tmp_path: Path, client: Client):
    """What goes along is part of what a result depends on, in a kernel as in a script."""
    (tmp_path / "made").mkdir()
    path = write(tmp_path / "own.ipynb", f"made = {str(tmp_path / 'made')!r}", COMPUTES)
    sums = []
    for factor in (3, 5):
        (tmp_path / "helpers.py").write_text(f"def triple(number):\n    return {factor} * number\n")
        program = prepare(str(path))
        submitted = Submitted(tmp_path / "journal.sqlite", 10**8, "", list(program.units.values()))
        with sent_along(client, program, lambda _: None):
            found = executed(path, client, submitted)
        assert found.broken == ""
        notebooks.write_notebook(found.content, tmp_path / "done.ipynb")
        sums.append(printed(tmp_path / "done.ipynb")[1])
    assert sums == ["14850\n", "24750\n"]


def test_a_kernel_that_dies_is_told(tmp_path: Path, client: Client):
    cells = ["print('one')", "import os; os._exit(3)", "print('three')"]
    found = executed(write(tmp_path / "dies.ipynb", *cells), client)
    assert (found.broken, found.interrupted) == ("the kernel died in cell 2", False)
    notebooks.write_notebook(found.content, tmp_path / "dies.ipynb")
    assert printed(tmp_path / "dies.ipynb") == ["one\n", "", ""]


def test_an_interrupted_notebook_keeps_what_it_has(tmp_path: Path, client: Client):
    going = tmp_path / "going"
    cells = [f"print('one'); open({str(going)!r}, 'x')\nimport time; time.sleep(600)", "print('two')"]
    path = write(tmp_path / "long.ipynb", *cells)

    def interrupt() -> None:
        end = time.monotonic() + 120
        while not going.exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    found = executed(path, client)
    thread.join()
    assert (found.broken, found.interrupted) == ("", True)
    notebooks.write_notebook(found.content, path)
    assert printed(path) == ["one\n", ""]


@pytest.mark.parametrize(
    ("cell", "modules"),
    [
        ("import a\nfrom b import c", ["a", "b"]),
        ("%matplotlib inline\nimport a", ["a"]),
        ("if True:\n    %time f()\n    import a", ["a"]),
        ("!pip list\nimport a\na?", ["a"]),
        ("%%bash\nimport a", []),
        ("import a\nawait a.b()", ["a"]),
        ("this is no Python\nimport a", []),
    ],
)
def test_what_cells_import(tmp_path: Path, cell: str, modules: list[str]):
    tree = notebooks.imports(write(tmp_path / "a.ipynb", cell).read_bytes(), "a.ipynb")
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
    assert sorted(names) == modules


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"cells": [{}], "metadata": {}}', '{"cells": 1, "metadata": {}}']
)
def test_what_is_no_notebook_is_refused(content: str):
    with pytest.raises(InputError, match=r"^a\.ipynb can't be read as a notebook; open it in JupyterLab"):
        notebooks.imports(content.encode(), "a.ipynb")


def test_what_does_not_go_with_notebooks_is_refused_before_anything_begins(tmp_path: Path):
    (tmp_path / "none.ipynb").write_text("print('a script')")
    write(tmp_path / "a.ipynb", "1 + 1")
    write(tmp_path / "r.ipynb", "1 + 1", kernelspec={"name": "ir", "language": "R", "display_name": "R"})
    for words, said in (
        (["none.ipynb"], "none.ipynb can't be read as a notebook; open it in JupyterLab, and save it again"),
        (["a.ipynb", "4"], "a notebook takes no arguments: leave out 4, or write them into a cell"),
        (["r.ipynb"], "r.ipynb is a notebook in R; only those in Python run here"),
        (["--resume", ".", "a.ipynb"], "has the notebook itself, which would be overwritten; name another folder"),
    ):
        done = tritoncluster(tmp_path, "submit", *words)
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[-1]
        assert "Starting a cluster" not in done.stderr


def test_a_service_that_runs_none_accepts_none(monkeypatch: pytest.MonkeyPatch):
    request = Request("submit", ("--with", "data.csv", "--", "a.ipynb"), "submit a.ipynb")
    api.check_runnable(request)
    monkeypatch.setattr(notebooks, "NEEDED", ("no_such_module",))
    with pytest.raises(InputError, match=r"runs no notebooks: .*JOBS_IMAGE in \.env"):
        api.check_runnable(request)
    api.check_runnable(Request("submit", ("--", "a.py", "a.ipynb"), "submit a.py"))
