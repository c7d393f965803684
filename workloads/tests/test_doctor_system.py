"""Reading control groups and the rest, from folders laid out as systems lay them out."""

from pathlib import Path

import pytest

from tritoncluster.doctor.probes import describe
from tritoncluster.doctor.system import (
    board,
    control_groups,
    cpu_quotas,
    file_system,
    folders,
    memory_limits,
    throttled,
)

#: Controllers mounted together and apart, as distributions and container engines do.
V1 = """\
22 1 0:20 / / rw - overlay overlay rw
31 22 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 22 0:31 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
33 22 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 22 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V2 = """\
22 1 0:20 / / rw - ext4 /dev/mmcblk0p2 rw
31 22 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
40 22 0:40 / /mnt/two\\040words rw - tmpfs tmpfs rw
"""


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


def v1(root: Path, files: dict[str, str], *, group: str = "/jobs/one", mounted: str = "/", cpu: str = "") -> Path:
    mountinfo = V1.format(root=mounted)
    if cpu:
        mountinfo = mountinfo.replace("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu").replace("cpu,cpuacct", "cpu")
    membership = f"4:memory:{group}\n3:cpuset:/\n2:{cpu or 'cpu,cpuacct'}:{group}\n0::/"
    return lay(root, {"proc/self/mountinfo": mountinfo, "proc/self/cgroup": membership, **files})


def v2(root: Path, files: dict[str, str], *, group: str = "/", controllers: str = "cpuset cpu io memory pids") -> Path:
    basics = {
        "proc/self/mountinfo": V2,
        "proc/self/cgroup": f"0::{group}",
        "sys/fs/cgroup/cgroup.controllers": controllers,
    }
    return lay(root, basics | files)


def test_v2_container(tmp_path: Path):
    v2(tmp_path, {"sys/fs/cgroup/memory.max": "1073741824", "sys/fs/cgroup/cpu.max": "150000 100000"})
    assert list(memory_limits(tmp_path).values()) == [2**30]
    assert list(cpu_quotas(tmp_path).values()) == [1.5]


def test_v2_limits_of_the_groups_around_count_too(tmp_path: Path):
    files = {
        "sys/fs/cgroup/user.slice/memory.max": "2000",
        "sys/fs/cgroup/user.slice/cpu.max": "max 100000",
        "sys/fs/cgroup/user.slice/a.scope/memory.max": "max",
        "sys/fs/cgroup/user.slice/a.scope/cpu.max": "25000 100000",
    }
    v2(tmp_path, files, group="/user.slice/a.scope")
    (outer,), (inner,) = memory_limits(tmp_path).items(), cpu_quotas(tmp_path).items()
    assert outer[1] == 2000
    assert inner[1] == 0.25
    assert inner[0].startswith(outer[0])


def test_v2_memory_switched_off_as_raspberry_pi_os_boots(tmp_path: Path):
    v2(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000"}, controllers="cpuset cpu io pids")
    assert control_groups(tmp_path, "memory") == []
    assert memory_limits(tmp_path) == {}
    assert cpu_quotas(tmp_path) == {}


@pytest.mark.parametrize(("cpu", "folder"), [("", "cpu,cpuacct"), ("cpu", "cpu")])
def test_v1_on_a_host(tmp_path: Path, cpu: str, folder: str):
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": "4000",
        "sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": "3000",
        f"sys/fs/cgroup/{folder}/jobs/cpu.cfs_quota_us": "-1",
        f"sys/fs/cgroup/{folder}/jobs/cpu.cfs_period_us": "100000",
        f"sys/fs/cgroup/{folder}/jobs/one/cpu.cfs_quota_us": "50000",
        f"sys/fs/cgroup/{folder}/jobs/one/cpu.cfs_period_us": "100000",
    }
    v1(tmp_path, files, cpu=cpu)
    assert list(memory_limits(tmp_path).values()) == [3000, 4000]
    assert list(cpu_quotas(tmp_path).values()) == [0.5]


def test_v1_container_sees_its_own_group_as_the_top(tmp_path: Path):
    group = "/docker/0123abcd"
    v1(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "3000"}, group=group, mounted=group)
    assert list(memory_limits(tmp_path).values()) == [3000]


def test_process_outside_of_the_tree_in_sight(tmp_path: Path):
    v2(tmp_path, {"sys/fs/cgroup/memory.max": "3000"}, group="/../elsewhere")
    assert list(memory_limits(tmp_path).values()) == [3000]


def test_groups_have_different_names_in_different_namespaces(tmp_path: Path):
    names = set()
    for number in (1, 2):
        root = v2(tmp_path / str(number), {"sys/fs/cgroup/memory.max": "3000"})
        (root / "proc/self/ns").mkdir()
        (root / "proc/self/ns/cgroup").symlink_to(f"cgroup:[{number}]")
        names |= set(memory_limits(root))
    assert len(names) == 2


def test_system_that_is_no_linux(tmp_path: Path):
    described = describe(tmp_path, str(tmp_path))
    assert described["memory_limits"] == {}
    assert described["cpu_quotas"] == {}
    assert described["disk"] == ""
    assert described["host"] == described["hostname"]
    assert described["bits"] in {32, 64}


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/pi", "ext4"), ("/mnt/two words/below", "tmpfs"), ("/mnt/two", "ext4"), ("/sys/fs/cgroup/x", "cgroup2")],
)
def test_file_system(tmp_path: Path, path: str, kind: str):
    assert file_system(v2(tmp_path, {}), path) == kind


def test_folders_of_one_file_system_are_told_of_once(tmp_path: Path):
    (tmp_path / "below").mkdir()
    ((path, kind, share, free),) = folders(tmp_path, str(tmp_path), str(tmp_path / "below"), str(tmp_path / "missing"))
    assert (path, kind) == (str(tmp_path), "")
    assert 0 <= share <= 1
    assert free >= 0


def test_raspberry_pi_by_device_tree_and_in_a_container(tmp_path: Path):
    host = lay(tmp_path / "host", {"sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    container = lay(tmp_path / "container", {"proc/cpuinfo": "processor\t: 0\n\nModel\t\t: Raspberry Pi 4 Model B"})
    desktop = lay(tmp_path / "desktop", {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU"})
    assert board(host) == "Raspberry Pi 5 Model B Rev 1.0"
    assert board(container) == "Raspberry Pi 4 Model B"
    assert board(desktop) == ""


@pytest.mark.parametrize("place", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_throttling_bits(tmp_path: Path, place: str):
    assert throttled(tmp_path) is None
    lay(tmp_path, {f"sys/devices/platform/{place}/get_throttled": "50005"})
    assert throttled(tmp_path) == 0x50005
