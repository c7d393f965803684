"""What is said of a command that the kernel kills."""

import signal
from pathlib import Path

import pytest
from test_doctor_system import v1, v2

from tritoncluster.cli.watch import explain, memory_kills


def test_limit_is_named_when_memory_ran_out(tmp_path: Path):
    v2(tmp_path, {"sys/fs/cgroup/memory.max": str(2**31), "sys/fs/cgroup/memory.events": "max 7\noom 1\noom_kill 3"})
    assert memory_kills(tmp_path) == 3
    line = explain(signal.SIGKILL, by_memory=True, root=tmp_path)
    assert line.startswith("the program ran out of memory, the limit here is 2,048 MiB; raise it (WORKLOAD_MEMORY")
    assert "\n" not in line


def test_old_control_groups_count_too(tmp_path: Path):
    v1(tmp_path, {"sys/fs/cgroup/memory/jobs/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2"})
    assert memory_kills(tmp_path) == 2


def test_whole_machine_counts_where_there_is_no_group(tmp_path: Path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 1\noom_kill 5\n")
    assert memory_kills(tmp_path) == 5
    assert "this machine has no more" in explain(signal.SIGKILL, by_memory=True, root=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGKILL])
def test_other_ends_are_named(tmp_path: Path, number: signal.Signals):
    assert number.name in explain(number, by_memory=False, root=tmp_path)
