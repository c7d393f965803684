"""What the doctor makes of answers from machines that are not here."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tritoncluster.doctor import arithmetic, hosts
from tritoncluster.doctor.agreement import images
from tritoncluster.doctor.finding import Finding
from tritoncluster.doctor.hosts import Machine
from tritoncluster.doctor.network import connections
from tritoncluster.doctor.probes import SILENT
from tritoncluster.doctor.silent import judge
from tritoncluster.nodes import Worker

GIB = 2**30
WORKER = Worker("tcp://10.0.0.1:8800", "pi-1", 4, 3 * GIB, "/spill", nanny=True)
MACHINE = Machine(
    host="boot-1",
    hostname="pi-1",
    architecture="aarch64",
    bits=64,
    board="Raspberry Pi 4 Model B Rev 1.4",
    container=True,
    processors=[0, 1, 2, 3],
    cpu_quotas={},
    memory=4 * GIB,
    memory_limits={"group": 4 * GIB},
    memory_limited=True,
    disk="ext4",
    disk_free=20 * GIB,
    throttled=None,
    spills=True,
)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.ok == (not finding.remedy)
    return finding


def test_all_is_well():
    seats = [(WORKER, MACHINE)]
    checks = (hosts.memory, hosts.spilling, hosts.processors, hosts.architectures)
    assert all(only(list(check(seats))).ok for check in checks)
    assert list(hosts.power(seats)) == []


@pytest.mark.parametrize(
    ("worker", "machine", "detail", "remedy"),
    [
        ({"memory_limit": 0}, {}, "no memory limit", "--memory-limit"),
        (
            {"memory_limit": 3 * GIB},
            {"memory_limits": {"group": 2 * GIB}},
            "3.00 GiB promised, but the kernel kills at 2.00 GiB",
            "--memory-limit 1973MiB",
        ),
        # Dask acts at 95 %, and its nanny is in the same container.
        ({"memory_limit": GIB}, {"memory_limits": {"group": GIB}}, "before Dask acts", "--memory-limit 949MiB"),
        (
            {},
            {"memory_limits": {}, "memory_limited": False},
            "Raspberry Pi 4 Model B Rev 1.4 can't limit memory",
            "cgroup_enable=memory cgroup_memory=1 to /boot/firmware/cmdline.txt",
        ),
        ({"memory_limit": 5 * GIB}, {"memory_limits": {}}, "5.00 GiB promised on pi-1, which has 4.00 GiB", "4096MiB"),
        ({"nanny": False}, {"memory_limits": {}}, "nothing enforces its limit of 3.00 GiB", "nanny"),
    ],
)
def test_memory(worker: dict[str, int], machine: dict[str, object], detail: str, remedy: str):
    finding = only(list(hosts.memory([(replace(WORKER, **worker), replace(MACHINE, **machine))])))
    assert detail in finding.detail
    assert remedy in finding.remedy
    assert finding.where == "pi-1"


def test_plain_process_where_the_kernel_can_not_limit_memory():
    plain = replace(MACHINE, container=False, memory_limits={}, memory_limited=False)
    assert only(list(hosts.memory([(WORKER, plain)]))).ok


def test_workers_of_one_host_promise_more_than_it_has():
    plain = replace(MACHINE, memory_limits={})
    elsewhere = (replace(WORKER, name="pi-2"), replace(plain, host="boot-2", hostname="pi-2"))
    finding = only(list(hosts.memory([(WORKER, plain), (replace(WORKER, name="pi-1b"), plain), elsewhere])))
    assert finding.where == "pi-1, pi-1b"
    assert "6.00 GiB promised on pi-1, which has 4.00 GiB" in finding.detail


def test_containers_of_one_host_have_limits_of_their_own():
    machine, worker = replace(MACHINE, memory=8 * GIB), replace(WORKER, threads=2)
    seats = [
        (replace(worker, name=name), replace(machine, memory_limits={name: 4 * GIB}, cpu_quotas={name: 2.0}))
        for name in ("a", "b")
    ]
    assert only(list(hosts.memory(seats))).ok
    assert only(list(hosts.processors(seats))).ok


@pytest.mark.parametrize(
    ("threads", "machine", "detail"),
    [
        (4, {"cpu_quotas": {"group": 1.5}}, "4 threads on a quota of 1.5 CPU of pi-1"),
        (4, {"processors": [0, 1]}, "4 threads on 2 CPU of pi-1"),
        (1, {"cpu_quotas": {"group": 0.25}}, ""),
        (2, {"cpu_quotas": {"group": 1.5}}, ""),
    ],
)
def test_threads_against_quota_and_affinity(threads: int, machine: dict[str, object], detail: str):
    finding = only(list(hosts.processors([(replace(WORKER, threads=threads), replace(MACHINE, **machine))])))
    assert finding.ok == (not detail)
    assert detail in finding.detail


def test_processes_of_one_group_share_its_quota():
    one = (replace(WORKER, threads=1), replace(MACHINE, cpu_quotas={"group": 2.0}))
    assert only(list(hosts.processors([one] * 2))).ok
    assert "3 threads on a quota of 2 CPU" in only(list(hosts.processors([one] * 3))).detail


def test_architectures():
    seats = [(WORKER, replace(MACHINE, architecture=kind)) for kind in ("aarch64", "x86_64", "aarch64")]
    assert only(list(hosts.architectures(seats))).detail == "2 aarch64, 1 x86_64"
    finding = only(list(hosts.architectures([(WORKER, replace(MACHINE, bits=32))])))
    assert "32-bit Python on a 64-bit kernel" in finding.detail


@pytest.mark.parametrize(
    ("machine", "detail"),
    [
        ({"disk": "tmpfs"}, "which is memory itself (tmpfs)"),
        ({"disk_free": GIB // 2}, "512.00 MiB free for spilling in /spill"),
        ({"disk": "tmpfs", "spills": False}, ""),
    ],
)
def test_spilling(machine: dict[str, object], detail: str):
    finding = only(list(hosts.spilling([(WORKER, replace(MACHINE, **machine))])))
    assert finding.ok == (not detail)
    assert detail in finding.detail


@pytest.mark.parametrize(
    ("bits", "detail", "remedy"),
    [
        (0x50005, "under-voltage, throttled now", "power supply"),
        (0x50000, "under-voltage, throttled since it started", "power supply"),
        (0x80008, "hot now", "cool it"),
        (0xE0008, "hot now; frequency capped, throttled since it started", "cool it"),
        (0, "1 Raspberry Pi not throttled since the start", ""),
    ],
)
def test_power(bits: int, detail: str, remedy: str):
    # Two workers of one host tell of the same power supply.
    finding = only(list(hosts.power([(WORKER, replace(MACHINE, throttled=bits))] * 2)))
    assert finding.detail == detail
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("client", "nodes", "wrong"),
    [
        ("", {"scheduler": "", "pi": ""}, set()),
        ("", {"scheduler": "a", "pi": "a"}, set()),
        ("a", {"scheduler": "a", "pi": "a"}, set()),
        ("b", {"scheduler": "a", "pi": "a"}, {"client"}),
        ("", {"scheduler": "a", "pi": "b", "desk": ""}, {"pi", "desk"}),
        ("", {"pi": "a", "desk": "b", "shelf": "a"}, {"desk"}),
    ],
)
def test_images(client: str, nodes: dict[str, str], wrong: set[str]):
    assert {finding.where for finding in images(client, nodes) if not finding.ok} == wrong


def test_each_pair_that_fails_is_named():
    others = [replace(WORKER, address=f"tcp://10.0.0.{number}:8800", name=f"pi-{number}") for number in (1, 2, 3)]
    first, second, third = (worker.address for worker in others)
    answers = {first: {second: "refused", third: ""}, second: {first: "", third: "lost"}, third: OSError("gone")}
    found = [(finding.where, finding.detail) for finding in connections(others, answers)]
    assert found == [
        ("pi-3", "could not be checked: OSError gone"),
        ("pi-2", f"not reached from pi-1 at {second}: refused"),
        ("pi-3", f"not reached from pi-2 at {third}: lost"),
    ]


@pytest.mark.parametrize(
    ("knock", "nanny", "process", "detail", "remedy"),
    [
        ("", True, ("stopped", False), "it takes connections, but does not answer: process 7 is stopped", "-CONT 7"),
        # It no longer takes connections when too many wait for it.
        ("no answer", True, ("stopped", False), "it does not answer: process 7 is stopped", "-CONT 7"),
        ("", True, ("disk-sleep", False), "process 7 waits for a disk or a network file system", "dmesg"),
        ("", True, ("running", True), "process 7 is busy with a call that lets nothing else run", ""),
        ("", True, ("sleeping", False), "process 7 is there, and does nothing", "kill -KILL 7"),
        ("", True, None, "does not answer; its nanny does", "restart it"),
        ("", False, None, "nor does its nanny", "docker unpause"),
        ("", None, None, "it takes connections, but does not answer", "restart it"),
        (None, None, None, "it does not answer", "restart it"),
        ("refused", True, ("sleeping", False), "not reached from the scheduler at tcp://10.0.0.1:8800", "firewall"),
        ("refused", False, TimeoutError(), "not reached from the scheduler at tcp://10.0.0.1:8800", "firewall"),
    ],
)
def test_worker_that_does_not_answer(knock: str | None, nanny: Any, process: Any, detail: str, remedy: str):
    if isinstance(process, tuple):
        process = {"pid": 7, "state": process[0], "computes": process[1]}
    finding = judge(WORKER, knock=knock, nanny=nanny, process=process)
    assert (finding.check, finding.where, finding.ok) == ("workers", "pi-1", not remedy)
    assert detail in finding.detail
    assert remedy in finding.remedy


def test_port_that_takes_connections_is_not_the_firewalls_fault():
    other = replace(WORKER, address="tcp://10.0.0.2:8800", name="pi-2")
    finding = only(list(connections([WORKER, other], {WORKER.address: {other.address: SILENT}})))
    assert finding.where == "pi-2"
    assert "firewall" not in finding.remedy
    assert "restart" in finding.remedy


@pytest.mark.parametrize(
    ("workers", "expected"), [(1, "only one worker to ask"), (3, "2 of 2 ways between workers open")]
)
def test_open_ways(workers: int, expected: str):
    there = [replace(WORKER, address=f"tcp://10.0.0.{number}:8800") for number in range(workers)]
    answers = {there[0].address: dict.fromkeys([worker.address for worker in there[1:]], "")}
    assert only(list(connections(there, answers))).detail == expected


def test_ways_are_not_told_of_when_nobody_was_asked():
    assert list(connections([WORKER] * 4, {})) == []


@pytest.mark.parametrize(
    ("folder", "detail"),
    [
        (
            ("/temporary", "tmpfs", 0.01, 640 * 1024),
            "/temporary, which is memory, is nearly full: 1% of it, 640.00 kiB, is free",
        ),
        (("/temporary", "ext4", 0.05, 200 * 2**20), "/temporary is nearly full: 5% of it, 200.00 MiB, is free"),
        (("/temporary", "ext4", 0.0, 0), "/temporary is nearly full: 0% of it, 0 B, is free"),
        # A twentieth of a large disk is plenty, and so are nine tenths of a small one.
        (("/temporary", "ext4", 0.05, 50 * GIB), ""),
        (("/temporary", "tmpfs", 0.9, 58 * 2**20), ""),
        # That is what the check of spilling is about.
        (("/spill", "ext4", 0.01, GIB // 2), ""),
    ],
)
def test_full_folders(folder: tuple[str, str, float, int], detail: str):
    machine = replace(MACHINE, folders=[folder, ("/memory", "tmpfs", 1.0, 2**26)])
    finding = only(list(hosts.folders([(WORKER, machine)])))
    assert finding.ok == (not detail)
    assert detail in finding.detail
    assert not detail or "du -xah /temporary" in finding.remedy


def test_folder_that_is_not_for_spilling_is_looked_at():
    machine = replace(MACHINE, folders=[("/spill", "ext4", 0.01, GIB // 2)], spills=False)
    assert "/spill is nearly full" in only(list(hosts.folders([(WORKER, machine)]))).detail


def test_workers_of_one_container_share_its_folder_and_others_do_not():
    machine = replace(MACHINE, folders=[("/temporary", "tmpfs", 0.0, 0)])
    seats = [
        (WORKER, machine),
        (replace(WORKER, name="pi-1b"), machine),
        (replace(WORKER, name="pi-2"), replace(machine, hostname="pi-2")),
    ]
    assert [finding.where for finding in hosts.folders(seats)] == ["pi-1, pi-1b", "pi-2"]


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    return asyncio.run(arithmetic.calculate())


def test_arithmetic_of_this_machine_is_right(right: dict[str, Any]):
    assert only(list(arithmetic.judge({"pi": right, "desk": right}, right))).ok


@pytest.mark.parametrize(
    ("answers", "here", "wrong"),
    [
        # Same versions: what most have counts, and the client's answer where there is no most.
        ({"pi": "wrong"}, "right", {"pi"}),
        ({"pi": "wrong", "desk": "right"}, "right", {"pi"}),
        ({"pi": "right", "desk": "right"}, "wrong", {"client"}),
        ({"pi": "wrong", "desk": "wronger"}, "right", {"pi", "desk"}),
        # Other versions may predict otherwise.
        ({"pi": "other"}, "right", set()),
        ({"pi": "other", "desk": "right"}, "right", set()),
        ({"pi": "other", "desk": "other, wrong", "shelf": "other"}, "right", {"desk"}),
    ],
)
@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ("vectors", "2 of 60 predictions of a support vector machine differ"),
        ("tree", "2 of 60 predictions of a decision tree differ"),
        ("stream", "another random stream"),
    ],
)
def test_arithmetic_is_compared_among_the_same_versions(
    right: dict[str, Any], key: str, detail: str, answers: dict[str, str], here: str, wrong: set[str]
):
    def changed(by: str) -> Any:
        return (by, *right[key][1:]) if key == "stream" else by * 2 + right[key][2:]

    kinds = {
        "right": right,
        "wrong": {**right, key: changed("x")},
        "wronger": {**right, key: changed("y")},
        "other": {**right, "versions": ("9", "9", "9"), key: changed("z")},
        "other, wrong": {**right, "versions": ("9", "9", "9"), key: changed("x")},
    }
    findings = list(arithmetic.judge({node: kinds[kind] for node, kind in answers.items()}, kinds[here]))
    assert {finding.where for finding in findings if not finding.ok} == wrong
    assert all(detail in finding.detail for finding in findings if not finding.ok)


def test_wrong_product_is_wrong_with_any_versions(right: dict[str, Any]):
    broken = {**right, "versions": ("9", "9", "9"), "errors": {"numpy, single": 3.0}}
    finding = only([finding for finding in arithmetic.judge({"pi": broken}, right) if not finding.ok])
    assert (finding.where, finding.detail) == ("pi", "product of matrices (numpy, single) off by 3")
