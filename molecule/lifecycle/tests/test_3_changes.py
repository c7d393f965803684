"""What changes a cluster in the middle of a job."""

import json
import re
import subprocess
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from jobs import WAITS, accepted, brought, squares, steady
from room import (
    ADDRESSES,
    FILES,
    FOUR,
    PKI,
    SHORT,
    THREE,
    changes,
    container,
    digest,
    given,
    inventory,
    names,
    on,
    play,
    running,
    started,
    until,
)

NEXT = {"VERSION": "0.1.0+next"}


def test_a_host_is_drained():
    with squares("spare"):
        play("ansible/drain.yml", inventory(*FOUR, everywhere=SHORT), "--limit", "spare")
        assert names() == set(THREE)
        assert container("spare", "worker")["State"]["Status"] == "exited"
    play("site.yml", inventory(*FOUR, everywhere=SHORT))
    assert names() == set(FOUR)


def test_a_new_image_rolls_over_the_cluster():
    before = running(FOUR)
    hosts = inventory(*FOUR, everywhere=SHORT)
    with squares(*FOUR) as (end, job):
        # This one waits for the next scheduler, which nobody has to wait for.
        left_alone = accepted(play("ansible/run.yml", hosts, *steady(), "-e", "detach=true"))
        with started("ansible/upgrade.yml", hosts, **NEXT) as run:
            printed = ""
            for line in run.stdout:
                printed += line
                # It comes back when the scheduler is replaced, which waits for the job's end.
                if "Let jobs that would be lost" in line:
                    end()
            assert run.wait() == 0, printed[-6000:]
    assert running(FOUR) == {f"10.214.14.11:5000/tritoncluster/node@{digest('node')}"} != before
    # One worker after the other, and then the scheduler, after the job's end.
    workers = sorted((worker["at"], worker["back"]) for worker in job["left"])
    assert all(back < next_leaves for (_, back), (next_leaves, _) in pairwise(workers)), workers
    begun = container("desktop", "scheduler")["State"]["StartedAt"]
    begun = float(on("desktop").check_output("date +%%s.%%N --date %s", begun))
    assert workers[-1][1] < job["ended"] < begun, (workers, job["ended"], begun)
    assert names() == set(FOUR)
    brought(left_alone, hosts)


def are_back():
    """Tell whether all workers of a scheduler are there, whose host may be starting."""
    with suppress(AssertionError, RuntimeError):
        return names() == set(FOUR)
    return False


def test_a_job_outlives_its_controller_s_network_and_its_host_s_power():
    hosts = inventory(*FOUR, desktop={"ansible_ssh_common_args": f"-F {FILES}/ssh/config -o ControlPath=none"})
    with started("ansible/run.yml", hosts, *steady(), **NEXT) as run:
        printed = ""
        for line in run.stdout:
            printed += line
            if WAITS in line:
                break
        left_alone = accepted(printed)
        assert left_alone, printed[-6000:]
        stop = "iptables -I INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset; pkill -f '[s]shd.*@' || true"
        with given("desktop", stop, "iptables -D INPUT 1"):
            printed = run.communicate()[0]
        assert run.returncode, printed[-6000:]
    # As when the plug is pulled.
    for word in ("kill", "start"):
        subprocess.run(["docker", word, "tritoncluster-lifecycle-desktop"], check=True, capture_output=True)
    until(are_back, seconds=300)
    assert "goes on, after the service was started anew" in brought(left_alone, hosts)


#: Who shows which certificate.
SHOWN = {("desktop", 8786): "hosts/desktop", ("desktop", 8787): "gateway", ("desktop", 5000): "hosts/desktop"}
SHOWN |= {(name, port): f"hosts/{name}" for name in FOUR for port in (8800, 8900)}


def shown():
    """Give who shows which certificate on the wire; the laptop's firewall lets but the hosts in."""
    script = (
        "import json, ssl, sys; print(json.dumps(ssl.get_server_certificate((sys.argv[1], sys.argv[2]), timeout=10)))"
    )
    found = {}
    for name, port in SHOWN:
        certificate = on("desktop").check_output("python3 -c %s %s %s", script, ADDRESSES[name], str(port))
        found[name, port] = x509.load_pem_x509_certificate(json.loads(certificate).encode())
    return found


def days_left(certificate):
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def test_certificates_that_are_about_to_end_are_renewed():
    before = shown()
    assert {days_left(certificate) for certificate in before.values()} == {29}
    hosts = inventory(*FOUR)
    play("site.yml", hosts, **NEXT)
    after = shown()
    assert {days_left(certificate) for certificate in after.values()} == {396}
    for who, folder in SHOWN.items():
        assert after[who] == x509.load_pem_x509_certificate((PKI / folder / "tls.crt").read_bytes()), who
    assert names() == set(FOUR)
    assert set(changes(play("site.yml", hosts, **NEXT)).values()) == {0}


@contextmanager
def moved(name, address):
    """Have a host at another address for a while."""
    container, network = f"tritoncluster-lifecycle-{name}", "tritoncluster-lifecycle"

    def move(address):
        for words in (["disconnect", network, container], ["connect", "--ip", address, network, container]):
            subprocess.run(["docker", "network", *words], check=True, capture_output=True)

    move(address)
    try:
        yield
    finally:
        move(ADDRESSES[name])


def let_in_by_the_laptop():
    """Give the addresses that the laptop's firewall lets in for the cluster."""
    return set(re.findall(r"(\S+) +# tritoncluster", on("laptop").check_output("ufw status")))


def test_a_host_whose_address_has_changed_is_put_right():
    address = "10.214.14.15"
    with moved("spare", address):
        play("site.yml", inventory(*FOUR, spare={"ansible_host": address}), **NEXT)
        assert names() == set(FOUR)
        assert let_in_by_the_laptop() == {ADDRESSES[name] for name in THREE} | {address}
    play("site.yml", inventory(*FOUR), **NEXT)
    assert names() == set(FOUR)
    assert let_in_by_the_laptop() == set(ADDRESSES.values())
