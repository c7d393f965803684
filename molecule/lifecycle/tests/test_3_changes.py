"""What changes a cluster in the middle of a job."""

import json
import re
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from jobs import squares
from room import (
    ADDRESSES,
    FOUR,
    PKI,
    SHORT,
    THREE,
    changes,
    container,
    digest,
    inventory,
    names,
    on,
    play,
    running,
)

NEXT = {"VERSION": "0.1.0+next"}


def test_a_host_is_drained():
    with squares(leave=["spare"], there=THREE):
        play("ansible/drain.yml", inventory(*FOUR, everywhere=SHORT), "--limit", "spare")
        assert names() == set(THREE)
        assert container("spare", "worker")["State"]["Status"] == "exited"
    play("site.yml", inventory(*FOUR, everywhere=SHORT))
    assert names() == set(FOUR)


def down_and_up(name, since):
    """Give when a host's worker was stopped first, and when the next one was healthy."""
    events = (
        f"docker events --since {since} --until $(date +%s) --filter label=com.docker.compose.service=worker"
        " --format '{{.TimeNano}} {{.Action}}'"
    )
    found = [line.partition(" ") for line in on(name).check_output(events).splitlines()]
    down = next(int(at) for at, _, action in found if action == "die")
    return down, next(int(at) for at, _, action in found if action == "health_status: healthy" and int(at) > down)


def test_a_new_image_rolls_over_the_cluster():
    before, since = running(FOUR), int(time.time())
    with squares(leave=FOUR, there=FOUR) as job:
        # It comes back when the scheduler is replaced, which waits for the job's end.
        play("ansible/upgrade.yml", inventory(*FOUR, everywhere=SHORT), **NEXT)
    assert running(FOUR) == {f"10.214.14.11:5000/tritoncluster/node@{digest('node')}"} != before
    # One worker after the other, and then the scheduler, after the job's end.
    workers = sorted(down_and_up(name, since) for name in FOUR)
    assert all(up < next_down for (_, up), (next_down, _) in pairwise(workers)), workers
    started = container("desktop", "scheduler")["State"]["StartedAt"]
    started = int(on("desktop").check_output("date +%%s%%N --date %s", started))
    last_down, last_up = workers[-1]
    assert last_down < job["ended"] < started
    assert last_up < started
    assert names() == set(FOUR)


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
