"""What runs on each host, and how it is held."""

import re
from pathlib import PurePosixPath

import pytest
from conftest import ADDRESSES, HOSTS, PKI, containers, index, log, on

testinfra_hosts = [f"ssh://{name}" for name in HOSTS]

SERVICES = {
    "desktop": {"scheduler", "jobs", "worker", "gateway", "notebook-client", "notebook-teacher", "notebook-guest"},
    "laptop": {"worker", "worker-2"},
    "pi": {"worker"},
}
# Where there are notebooks, they are jobs, too.
IMAGES = {"gateway": "gateway", "notebook": "notebook", "jobs": "notebook"}
#: Ports that others reach. The laptop's workers have too little memory for nannies.
OUTSIDE = {
    "desktop": {22, 5000, 8786, 8787, 8800, 8900},
    "laptop": {22, 8800, 8801},
    "pi": {22, 8800, 8900},
}
INSIDE = {"desktop": {8789, 9000}, "laptop": {9000, 9001}, "pi": {9000}}
#: mebibytes and CPUs of each process
WORKERS = {"desktop": (1408, 2.0), "laptop": (768, 1.0), "pi": (1536, 0.5)}


@pytest.fixture
def name(host):
    return host.check_output("hostname")


def test_containers_run_the_digest_that_was_built(host, name):
    found = containers(host)
    assert set(found) == SERVICES[name]
    for service, container in found.items():
        digest, _platforms = index(IMAGES.get(service.partition("-")[0], "node"))
        assert container["Config"]["Image"].endswith(f"@{digest}"), service
        assert container["State"]["Health"]["Status"] == "healthy", log(host, service)
        described = host.check_output("docker image inspect --format '{{.RepoDigests}}' " + container["Image"])
        assert digest in described


def test_containers_are_held(host, name):
    user = host.check_output("id --user tritoncluster")
    for service, container in containers(host).items():
        settings = container["HostConfig"]
        assert settings["ReadonlyRootfs"], service
        assert settings["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in settings["SecurityOpt"], service
        assert container["Config"]["User"].split(":")[0] == user != "0", service
        assert host.check_output(f"docker exec tritoncluster-{service} id --user") == user


def test_a_slow_host_has_as_long_to_become_healthy_as_the_inventory_says(host):
    for service, container in containers(host).items():
        assert container["Config"]["Healthcheck"]["StartPeriod"] == 300 * 10**9, service


def test_the_kernel_enforces_the_workers_limits(host, name):
    memory, cpus = WORKERS[name]
    memory_files = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    for worker in filter(re.compile("worker").match, SERVICES[name]):

        def limit(files, worker=worker):
            return host.run(f"docker exec tritoncluster-{worker} sh -c 'cat {files} 2>/dev/null'").stdout.split()

        assert limit(memory_files) == [str(memory * 2**20)], worker
        quota = limit("/sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu*/cpu.cfs_quota_us")
        assert int(quota[0]) == cpus * 100_000, worker


def test_the_pi_s_worker_is_an_arm64_one(host, name):
    machine = host.check_output("docker exec tritoncluster-worker uname --machine")
    assert machine == ("aarch64" if name == "pi" else "x86_64")


def test_only_the_listed_ports_listen(host, name):
    outside, inside = set(), set()
    for line in host.check_output("ss --listening --tcp --numeric --no-header").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        (inside if address.startswith("127.") or address == "[::1]" else outside).add(int(port))
    assert outside == OUTSIDE[name]
    # The engine has some of its own there.
    assert inside >= INSIDE[name]


def test_keys_are_for_their_owner_alone(host, name):
    keys = host.check_output("find /etc/tritoncluster /opt/tritoncluster /etc/docker -name '*.key'").split()
    assert len(keys) >= 2
    for key in keys:
        assert host.file(key).mode == 0o600, key
        assert host.file(str(PurePosixPath(key).parent)).mode & 0o022 == 0, key


def test_the_authorities_keys_are_on_no_host(host, name):
    # A line from the middle of each.
    keys = [(PKI / authority / "ca.key").read_text().splitlines()[1] for authority in ("cluster", "dashboard")]
    asked = " ".join(f"-e '{line}'" for line in keys)
    found = host.run(f"grep --recursive --files-with-matches --fixed-strings {asked} /etc /home /opt /root /var/lib")
    assert found.stdout == ""


def test_what_workers_environment_has_is_root_s(host, name):
    file = host.file("/opt/tritoncluster/worker/compose.yaml")
    assert (file.user, file.mode) == ("root", 0o600)
    assert ("known-to-root-alone" in file.content_string) == (name == "pi")


def test_a_raspberry_pi_is_prepared():
    pi = on("pi")
    assert pi.file("/boot/firmware/cmdline.txt").content_string == (
        "console=tty1 root=PARTUUID=9730496b-02 rootwait cgroup_disable=memory quiet"
        " cgroup_enable=memory cgroup_memory=1\n"
    )
    assert "Storage=volatile" in pi.file("/etc/systemd/journald.conf.d/tritoncluster.conf").content_string
    assert pi.run("journalctl --header | grep --quiet /run/log/journal").rc == 0
    assert not on("laptop").file("/etc/systemd/journald.conf.d/tritoncluster.conf").exists


def test_logs_and_the_engine(host, name):
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled
    assert '"live-restore": true' in host.file("/etc/docker/daemon.json").content_string
    failed = host.check_output("systemctl --failed --no-legend --plain")
    assert not failed, host.run(f"journalctl --no-pager --lines 20 --unit {failed.split()[0]}").stdout


def test_hosts_know_each_other_by_number(host, name):
    env = host.file("/opt/tritoncluster/worker/.env").content_string
    assert f"WORKER_HOST={ADDRESSES[name]}\n" in env
    assert re.search(r"^SCHEDULER_ADDRESS=tls://10\.214\.13\.11:8786$", env, re.MULTILINE)
