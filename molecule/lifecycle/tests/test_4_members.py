"""Hosts that leave, a scheduler that moves, and another authority."""

import base64
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from cryptography import x509
from jobs import squares
from record import difference, record
from room import ADDRESSES, FILES, FOUR, PKI, THREE, changes, container, given, inventory, names, on, play, root
from test_3_changes import NEXT, let_in_by_the_laptop, shown

#: Less than a netbook has.
SMALL = {"dask_scheduler_memory": "512m", "dask_scheduler_workload_memory": "512m"}
#: What a worker's container does to find out whether others talk to it.
KNOCK = """
import sys, dask.config
from distributed import Security, rpc
from tornado.ioloop import IOLoop
arguments = Security(require_encryption=True).get_connection_args("worker")
async def ask():
    async with rpc(sys.argv[1], connection_args=arguments, timeout=5) as other:
        print(await other.identity())
IOLoop().run_sync(ask)
"""


def lets_in(name, address):
    """Tell whether another host's scheduler, worker or nanny talks to a host."""
    image = container(name, "worker")["Config"]["Image"]
    tls = "".join(f" -e DASK_DISTRIBUTED__COMM__TLS__{key}=/run/tls/{file}" for key, file in TLS.items())
    command = f"docker run --rm --network host --user 0 -v /etc/tritoncluster/tls:/run/tls:ro{tls} --entrypoint python3"
    return on(name).run(f"{command} {image} -c %s %s", KNOCK, f"tls://{address}").rc == 0


TLS = {"CA_FILE": "ca.crt", "WORKER__CERT": "tls.crt", "WORKER__KEY": "tls.key"}


def gives_images(name, registry=f"{ADDRESSES['desktop']}:5000"):
    """Tell whether a registry answers a host."""
    folder = f"/etc/docker/certs.d/{registry}"
    asked = f"""
import ssl, urllib.request
tls = ssl.create_default_context(cafile="{folder}/ca.crt")
tls.load_cert_chain("{folder}/client.cert", "{folder}/client.key")
handlers = urllib.request.ProxyHandler({{}}), urllib.request.HTTPSHandler(context=tls)
urllib.request.build_opener(*handlers).open("https://{registry}/v2/", timeout=10)
"""
    return on(name).run("python3 -c %s", asked).rc == 0


@pytest.fixture(scope="module")
def doors():
    """Whom a host has to reach: scheduler, a worker and its nanny, none of them behind a firewall."""
    return [f"{ADDRESSES[name]}:{port}" for name, port in (("desktop", 8786), ("netbook", 8800), ("netbook", 8900))]


def test_a_host_that_is_no_longer_in_the_inventory_is_refused(doors):
    assert [lets_in("spare", door) for door in doors] == [True] * 3
    assert gives_images("spare")
    with squares("spare"):
        printed = play("site.yml", inventory(*THREE), **NEXT)
        assert names() == set(THREE)
    assert "spare: no longer in the inventory, and refused by all others from now on" in printed
    assert [lets_in("spare", door) for door in doors] == [False] * 3
    assert [lets_in("laptop", door) for door in doors] == [True] * 3
    assert not gives_images("spare")
    assert gives_images("laptop")
    assert let_in_by_the_laptop() == {ADDRESSES[name] for name in THREE}


def test_it_is_left_as_it_was(before):
    assert "say which, as -e host=pi-3" in play("ansible/remove.yml", inventory(*THREE), "-e", "host=tablet", status=2)
    assert "has the scheduler" in play("ansible/remove.yml", inventory(*THREE), "-e", "host=desktop", status=2)
    play("ansible/remove.yml", inventory(*THREE), "-e", "host=spare", "-e", "teardown_packages=true")
    assert difference(before["spare"], record("spare")) == []
    assert not (PKI / "hosts/spare").exists()


def dashboard(user, password):
    """Give the status with which the dashboard answers somebody."""
    trust = ssl.create_default_context(cafile=PKI / "dashboard/ca.crt")
    request = urllib.request.Request(f"https://{ADDRESSES['desktop']}:8787/health")
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def lets_a_person_in(bundle, address):
    """Tell whether a scheduler, a worker or a nanny says anything to who shows this certificate."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=bundle / "ca.crt")
    context.check_hostname = False
    context.load_cert_chain(bundle / "tls.crt", bundle / "tls.key")
    with socket.create_connection((host, int(port)), 10) as raw, context.wrap_socket(raw) as connection:
        try:
            return bool(connection.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


def test_people_come_and_go(doors, tmp_path):
    assert "people: Anna is no name" in play("ansible/people.yml", people("Anna"), status=2)
    assert "teacher" in play("ansible/people.yml", people("teacher", "group-1"))
    bundle = shutil.copytree(PKI / "clients/group-1", tmp_path / "group-1")
    passwords = {name: (PKI / "clients" / name / "password").read_text().strip() for name in ("teacher", "group-1")}
    assert [dashboard(name, password) for name, password in passwords.items()] == [200, 200]
    assert [lets_a_person_in(bundle, door) for door in doors] == [True] * 3
    printed = play("ansible/people.yml", people("teacher"))
    assert "group-1: no longer in cluster_people, and refused from now on" in printed
    assert [dashboard(name, password) for name, password in passwords.items()] == [200, 401]
    assert [lets_a_person_in(bundle, door) for door in doors] == [False] * 3
    assert [lets_a_person_in(PKI / "clients/teacher", door) for door in doors] == [True] * 3


def people(*names):
    """Write an inventory in which these are named."""
    return inventory(*THREE, everywhere={"cluster_people": list(names)})


def test_one_host_that_is_off_is_in_nobody_s_way():
    stop = "iptables -I INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset; pkill -f '[s]shd.*@' || true"
    hosts = inventory(*THREE, netbook={"ansible_ssh_common_args": f"-F {FILES}/ssh/config -o ControlPath=none"})
    with given("netbook", stop, "iptables -D INPUT 1"):
        options = ("job=asian-option", "options='--paths 2000'", f"results={FILES}/results")
        play("ansible/run.yml", hosts, *(word for option in options for word in ("-e", option)))
        printed = play("ansible/drain.yml", hosts, "--limit", "netbook", status=2)
        assert "it gets no more work, but is not stopped: netbook: can't be reached by SSH" in printed
    play("ansible/drain.yml", hosts, "--limit", "netbook")
    assert names() == {"desktop", "laptop"}
    assert len(list((FILES / "results").glob("*/result.json"))) == 1
    shutil.rmtree(FILES / "results")


@contextmanager
def another_authority():
    """Lose the authority; at the end of the block all show certificates of another, beside which nobody is trusted."""
    shutil.move(PKI / "cluster", FILES / "lost")
    lost = x509.load_pem_x509_certificate((FILES / "lost/ca.crt").read_bytes())
    yield
    shutil.rmtree(FILES / "lost")
    own = (PKI / "cluster/ca.crt").read_text()
    authority = x509.load_pem_x509_certificate(own.encode())
    assert authority.subject != lost.subject
    for (name, port), certificate in shown().items():
        assert port == 8787 or certificate.issuer == authority.subject, (name, port)
    for name in FOUR:
        assert on(name).file("/etc/tritoncluster/tls/ca.crt").content_string == own


def test_another_authority_takes_over_while_some_are_stopped():
    ran = [("desktop", "scheduler"), ("desktop", "worker")]
    started = [container(*service)["State"]["StartedAt"] for service in ran]
    # It goes on as long as the netbook, which was drained, and the spare, which was removed, are not there.
    with another_authority(), squares():
        play("site.yml", inventory(*FOUR), **NEXT)
        assert names() == set(FOUR)
    assert [container(*service)["State"]["StartedAt"] for service in ran] == started


def test_the_scheduler_moves():
    hosts = inventory("desktop", "laptop", "spare", schedulers=["netbook"], everywhere=SMALL | {"notebook": True})
    desktop = on("desktop")
    kept = "results/1 jobs/1/result notebooks/client/1"
    root("desktop", f"cd /var/lib/tritoncluster; mkdir -p jobs/1 notebooks/client; echo done | tee {kept}")
    play("site.yml", hosts, **NEXT)
    assert names("netbook") == {"desktop", "laptop", "spare"}
    for service in ("gateway", "notebook-client"):
        assert container("netbook", service)["State"]["Health"]["Status"] == "healthy"
    assert on("netbook").check_output(f"cd /var/lib/tritoncluster; cat {kept}").split() == ["done"] * 3
    assert on("netbook").file("/var/lib/tritoncluster/jobs/1").user == "tritoncluster"
    assert desktop.check_output("docker ps --all --format '{{.Names}}'") == "tritoncluster-worker"
    assert not desktop.service("docker-registry").is_running
    assert desktop.check_output("ls /opt/tritoncluster") == "worker"
    assert desktop.check_output("ls /etc/tritoncluster | grep -e client -e gateway || true") == ""


def test_all_at_once_from_a_cluster_that_is_stopped():
    """It moves back, with another authority, and each host is a worker again; notebooks are switched off."""
    for name in FOUR:
        root(name, "docker ps --quiet --filter name=tritoncluster- | xargs --no-run-if-empty docker stop")
    with another_authority():
        play("site.yml", inventory(*FOUR), **NEXT)
    assert names() == set(FOUR)
    assert on("netbook").check_output("docker ps --all --format '{{.Names}}'") == "tritoncluster-worker"
    assert on("desktop").file("/var/lib/tritoncluster/notebooks/client/first-notebook.ipynb").exists
    for name in ("desktop", "netbook"):
        assert "notebook" not in on(name).check_output("docker images --digests; docker ps --all")
    assert set(changes(play("site.yml", inventory(*FOUR), **NEXT)).values()) == {0}


def test_ports_move_under_a_cluster_that_runs():
    moved = {"dask_scheduler_port": 9786, "gateway_port": 9787, "gateway_health_port": 9789, "registry_port": 5001}
    moved |= {"dask_worker_port": 9100, "dask_worker_nanny_port": 9200, "dask_worker_http_port": 9300}
    printed = play("site.yml", inventory(*FOUR, everywhere=moved), **NEXT)
    assert f"Dashboard: https://{ADDRESSES['desktop']}:9787, jobs: https://{ADDRESSES['desktop']}:9787/jobs" in printed
    assert names(port=9786) == set(FOUR)
    for name, of_the_room in {"desktop": {5001, 9786, 9787, 9789}, "netbook": set()}.items():
        listening = on(name).check_output("ss --tcp --listening --numeric --no-header").splitlines()
        ports = {int(line.split()[3].rpartition(":")[2]) for line in listening}
        assert of_the_room | {9100, 9200, 9300} <= ports
        assert not ports & {5000, 8786, 8787, 8789, 8800, 8900, 9000}
    assert gives_images("netbook", f"{ADDRESSES['desktop']}:5001")
