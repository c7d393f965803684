"""What is found by reading code, on folders of modules that hypothesis makes."""

import ast
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritoncluster.errors import InputError
from tritoncluster.imports import Folder, find_units, read_unit

#: Ways to import a module, each of which Python takes.
FORMS = (
    "import {0}",
    "import os, {0} as other",
    "from {0} import something",
    "from {0}.below import something",
    "import {0}.below.deeper",
    "def later():\n    import {0}",
    "class Later:\n    def later(self):\n        from {0} import something",
    "if True:\n    try:\n        import {0}\n    except ImportError:\n        pass",
    "import importlib\nimportlib.import_module('{0}')",
    "from importlib import import_module\nlambda: import_module('{0}.below')",
    "__import__('{0}')",
)
KINDS = ("module", "package", "namespace")

names = st.lists(st.from_regex(r"mine_[a-z]{1,4}", fullmatch=True), min_size=1, max_size=5, unique=True)


def write(folder: Path, name: str, kind: str, code: str) -> None:
    path = {
        "module": folder / f"{name}.py",
        "package": folder / name / "__init__.py",
        "namespace": folder / name / "below.py",
    }[kind]
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    if kind != "module":
        (folder / name / "deep").mkdir()
        (folder / name / "deep" / "er.py").write_text("")
        (folder / name / "data.csv").write_text("1")


@given(st.data(), names)
def test_finds_what_is_imported_and_nothing_else(data: st.DataObject, modules: list[str]):
    edges = {name: data.draw(st.sets(st.sampled_from(modules))) for name in ["script", *modules]}
    code = {
        name: "\n".join(data.draw(st.sampled_from(FORMS)).format(target) for target in sorted(targets))
        for name, targets in edges.items()
    }
    kinds = {name: data.draw(st.sampled_from(KINDS)) for name in modules}
    reached, waiting = set(), set(edges["script"])
    while waiting:
        reached.add(name := waiting.pop())
        waiting |= edges[name] - reached
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        for name in modules:
            write(folder, name, kinds[name], code[name])
        units = find_units(ast.parse(code["script"]), [Folder(folder)])
        assert set(units) == {f"{name}.py" if kinds[name] == "module" else name for name in reached}
        for unit in units.values():
            for path, content in unit.files.items():
                assert (folder / path).read_bytes() == content
            # A package goes as a whole, without its data.
            assert len(unit.files) == (1 if unit.name.endswith(".py") else 2)
            assert not any(path.endswith(".csv") for path in unit.files)


@pytest.mark.parametrize("name", ["queue", "random", "json"])
def test_module_of_pythons_own_name_is_refused_when_it_is_imported(tmp_path: Path, name: str):
    (tmp_path / f"{name}.py").touch()
    (tmp_path / "helpers.py").write_text(f"def later():\n    import {name}\n")
    assert find_units(ast.parse("import numpy"), [Folder(tmp_path)]) == {}
    with pytest.raises(InputError, match=f"{name}.py has the name of a module of Python's own; rename it"):
        find_units(ast.parse("import helpers"), [Folder(tmp_path)])


def test_module_of_a_loaded_package_is_refused(tmp_path: Path):
    (tmp_path / "dask.py").touch()
    with pytest.raises(InputError, match=r"dask.py has the name of a module that the cluster's programs need"):
        find_units(ast.parse("import dask"), [Folder(tmp_path)], known={"dask"})


def test_folder_without_code_or_of_an_installed_package_is_none(tmp_path: Path):
    for name in ("pandas", "pictures"):
        (tmp_path / name).mkdir()
    (tmp_path / "pandas" / "setup.py").touch()
    assert find_units(ast.parse("import pandas, pictures"), [Folder(tmp_path)]) == {}


def test_folder_that_is_named_goes_with_its_data_and_without_what_is_made(tmp_path: Path):
    kept = ["pkg/__init__.py", "pkg/table.csv", "pkg/below/m.py"]
    left = ["pkg/__pycache__/x.pyc", "pkg/.git/config", "pkg/venv/pyvenv.cfg", "pkg/venv/lib/y.py"]
    for name in [*kept, *left]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    unit = read_unit(tmp_path / "pkg", everything=True)
    assert set(unit.files) == set(kept)
    assert unit.module == "pkg"
    assert set(read_unit(tmp_path / "pkg").files) == {"pkg/__init__.py", "pkg/below/m.py"}
