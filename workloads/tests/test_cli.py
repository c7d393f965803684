import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import dask.config
import jsonschema
import pytest
from command import interrupt, tritoncluster
from distributed import Client
from remote import remote

from tritoncluster import __version__, cli

SCHEMA = json.loads(files("tritoncluster").joinpath("result.schema.json").read_text())


def valid_result(folder: Path) -> dict:
    """Read the only result below `folder`, after checking it."""
    (path,) = folder.rglob("result.json")
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA, format_checker=jsonschema.FormatChecker())
    return content


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, printed: str = "") -> str:
    """Give the one line with which a command refuses its input."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert end.value.code == 2
    assert captured.out == printed
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tritoncluster: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk"], "No such command 'walk'"),
        (["run", "forrest"], "there is no job 'forrest'; the jobs are forest, grid-search, asian-option, all"),
        (["run", "forest", "--treees", "5"], "No such option"),
        (["run", "forest", "--trees", "many"], "'many' is not a valid integer"),
        (["run", "forest", "--trees", "0"], "--trees must be at least 1, not 0"),
        (["run", "grid-search", "--samples", "-3"], "--samples must be at least 10, not -3"),
        (["run", "grid-search", "--grid", "none.yaml"], "--grid: none.yaml can't be read: No such file or directory"),
        (["run", "asian-option", "--paths", "1e6"], "'1e6' is not a valid integer"),
        (["run", "asian-option", "--paths", "9", "--standard-error", "1"], "give either --paths or --standard-error"),
        (["run", "all", "--seed", "-1"], "--seed must be at least 0, not -1"),
        (["run", "forest", "--workers", "0"], "0 is not in the range x>=1"),
        (["run", "forest", "--output", "/proc/results"], "--output /proc/results can't be written"),
        (["run", "forest", "--weight", "0"], "0.0 is not in the range 0.1<=x<=10"),
        (["submit", "--weight", "much", "none.py"], "'much' is not a valid float"),
        (["run", "forest", "--wait", "soon"], "'soon' is no duration to wait for a lost scheduler; write one like 90s"),
        (["submit", "--wait", "-3", "none.py"], "'-3' is no duration to wait for a lost scheduler"),
        (["run", "forest", "--output", "a", "--resume", "b"], "give either --output, for a new run, or --resume"),
        (["run", "forest", "--resume", "/proc/results"], "--resume /proc/results can't be written"),
        (["run", "forest", "--journal-size", "lots"], "'lots' is no size; write it as 500m or 2g"),
        (["compare", "all"], "there is no job 'all'; the jobs are forest, grid-search, asian-option"),
        (["submit"], "Missing argument 'SCRIPT'"),
        (["submit", "none.py"], "there is no script none.py that can be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("address", "command"), [("nowhere", ["run", "forest"]), ("tcp://127.0.0.1:9", ["doctor"])])
def test_unreachable_scheduler_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    command: list[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tritoncluster.cluster.CONNECT_TIMEOUT", "1 s")
    with dask.config.set({"scheduler-address": None}):
        message = refused(capsys, "--scheduler", address, *command, printed=f"Connecting to {address}\n")
    assert message.startswith(f"tritoncluster: no scheduler answers at {address} (")
    assert list(tmp_path.iterdir()) == []


def test_doctor_that_can_not_look_says_so_in_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tritoncluster.cluster.CONNECT_TIMEOUT", "1 s")
    with dask.config.set({"scheduler-address": None}), pytest.raises(SystemExit) as end:
        cli.main(["--scheduler", "tcp://127.0.0.1:9", "doctor", "--json"])
    assert end.value.code == 2
    content = json.loads(capsys.readouterr().out)
    assert (content["ok"], content["findings"]) == (False, [])
    assert content["error"].startswith("no scheduler answers at tcp://127.0.0.1:9")


def test_output_is_a_file_or_has_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert "below can't be written: Not a directory" in refused(
        capsys, "run", "forest", "--output", str(taken / "below")
    )
    (tmp_path / "result.json").write_text("{}")
    assert "has a result.json already" in refused(capsys, "run", "forest", "--output", str(tmp_path))
    assert taken.read_text() == "mine"
    assert (tmp_path / "result.json").read_text() == "{}"


@pytest.mark.slow
def test_all_writes_one_report(tmp_path: Path):
    sizes = ["--trees", "50", "--samples", "100", "--paths", "5000"]
    done = tritoncluster(tmp_path, "run", "all", *sizes, "--workers", "2", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in (
        "Cluster: 2 workers",
        "forest: 50 of 50 trees",
        "grid-search: 144 of 144 fits",
        "asian-option: 5 of 5",
    ):
        assert line in done.stdout
    assert done.stdout.rstrip().endswith("Report: out/report.html")
    content = valid_result(tmp_path)
    assert content["finished"] is True
    assert set(content["result"]) == {"forest", "grid-search", "asian-option"}
    assert content["parameters"]["forest"] == {"trees": 50, "seed": 0}
    assert len(content["cluster"]["workers"]) == 2
    assert content["versions"]["tritoncluster"] == __version__
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_json_is_all_of_standard_output(tmp_path: Path):
    done = tritoncluster(tmp_path, "run", "asian-option", "--paths", "3000", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == valid_result(tmp_path)
    assert "Report: results/asian-option-" in done.stderr


def test_compare(tmp_path: Path):
    done = tritoncluster(tmp_path, "compare", "asian-option", "--paths", "20000", "--workers", "2")
    assert done.returncode == 0, done.stderr
    ways = {way["name"]: way for way in valid_result(tmp_path)["result"]["ways"]}
    assert list(ways) == [
        "serial",
        "threads",
        "processes",
        "cluster",
        "joblib's dask",
        "Python loop",
        "one task a path",
    ]
    assert ways["serial"]["ratio"] == 1
    assert ways["Python loop"]["share"] == ways["one task a path"]["share"] == 1000 / 20_000
    assert "5.00%, scaled" in done.stdout


@pytest.mark.slow
def test_compare_says_when_the_cluster_does_not_help(tmp_path: Path):
    done = tritoncluster(tmp_path, "compare", "grid-search", "--samples", "60", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "The cluster does not help here" in done.stdout
    assert "The cluster does not help here" in valid_result(tmp_path)["result"]["verdict"]


@pytest.mark.parametrize(
    ("arguments", "when"),
    [
        pytest.param(["run", "forest", "--trees", "40000"], r"trees[^\n]* [1-9]\d*/40000", marks=pytest.mark.slow),
        pytest.param(
            ["run", "grid-search", "--samples", "6000"], r"fits[^\n]* (2\d|\d\d\d)/144", marks=pytest.mark.slow
        ),
        (["run", "asian-option", "--paths", "900000000"], r"blocks[^\n]*[1-9]\d*/"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, arguments: list[str], when: str):
    stopped = interrupt(tmp_path, *arguments, when=when)
    assert stopped.status == 130
    assert "was interrupted; what was finished is in results/" in stopped.output
    assert "Traceback" not in stopped.output
    # Five seconds are the aim; a busy machine has the rest. It must not wait for what has not ended.
    assert stopped.seconds < 60
    content = valid_result(tmp_path)
    assert content["finished"] is False
    assert content["result"]
    assert stopped.left == []


def test_ctrl_c_while_the_cluster_starts(tmp_path: Path):
    (tmp_path / "script.py").write_text("raise SystemExit(9)")
    stopped = interrupt(tmp_path, "submit", "script.py", when="Starting a cluster")
    assert stopped.status == 130
    assert stopped.left == []
    assert "Traceback" not in stopped.output


@pytest.mark.parametrize("place", ["cluster.LoopRunner", "cluster.parse_timedelta", "spec.SpecCluster.sync"])
def test_ctrl_c_in_the_middle_of_a_cluster_that_starts(tmp_path: Path, place: str):
    (tmp_path / "script.py").write_text("raise SystemExit(9)")
    module, name = place.split(".", 1)
    program = f"""
from distributed.deploy import {module}
from tritoncluster.cli import main

def interrupted(*arguments, **options):
    raise KeyboardInterrupt

{module}.{name} = interrupted
main(["submit", "script.py"])
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130
    assert done.stderr == "Starting a cluster on this machine\n\ntritoncluster: interrupted\n"


def test_lost_scheduler_is_one_line(tmp_path: Path):
    def kill_it_at_work() -> None:
        with Client(doomed.address, set_as_default=False) as client:
            while not any(client.processing().values()):
                time.sleep(0.1)
        doomed.scheduler.kill()

    with remote(tmp_path / "cluster") as doomed, ThreadPoolExecutor(1) as thread:
        thread.submit(kill_it_at_work)
        done = tritoncluster(
            *(tmp_path, "--scheduler", doomed.address, "run", "asian-option", "--paths", "900000000"),
            *("--output", "out", "--wait", "0"),
        )
    assert done.returncode == 1
    assert "asian-option failed: the scheduler went away while the job ran" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" in (tmp_path / "out" / "traceback.txt").read_text()


def test_help_lists_units_and_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["run", "asian-option", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Daily prices until expiry, today's included. [days; default 1,460]" in text
    assert "[per year; default 0.02]" in text


def test_doctor_finds_an_embedded_cluster_well(tmp_path: Path):
    done = tritoncluster(tmp_path, "doctor", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All is well." in done.stdout


@pytest.mark.slow
def test_doctor_says_what_to_do(tmp_path: Path):
    done = tritoncluster(tmp_path, "doctor", "--workers", "1", OMP_NUM_THREADS="1", TRITONCLUSTER_IMAGE="")
    with remote(tmp_path / "cluster", environment={"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}) as bad:
        done = tritoncluster(tmp_path, "--scheduler", bad.address, "doctor")
    assert done.returncode == 1
    assert "FIX" in done.stdout
    assert "OMP_NUM_THREADS" in done.stdout
