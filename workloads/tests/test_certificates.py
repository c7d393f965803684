"""Certificates that change under a scheduler and workers, each a process of its own."""

import asyncio
import operator
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import dask.config
import pytest
from authority import Authority
from distributed import Client, Security

from tritoncluster.certificates import connection_arguments, follow, serial_numbers
from tritoncluster.reach import listens

WORKERS = ("desktop", "laptop")
WAIT = 60
#: As Dask says it: of the scheduler's address, mostly, or of TLS.
REFUSED = r"tls://127\.0\.0\.1|TLS"


@pytest.mark.parametrize(
    "numbers",
    [(), (1,), (0x80,), (1 << 158, 5, 0xFF00), tuple(range(1000, 1200))],
    ids=lambda numbers: str(len(numbers)),
)
def test_the_numbers_on_a_list_are_read(numbers: tuple[int, ...]) -> None:
    assert serial_numbers(Authority().refusing(*numbers)) == set(numbers)
    assert serial_numbers(Authority().refusing(*numbers) + Authority().refusing(7)) == {7, *numbers}


class Room:
    """A scheduler, which is the desktop's, and workers; each has a folder of certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority()
        self.numbers = {name: self.authority.give(folder / name, name) for name in (*WORKERS, "client", "old-client")}
        self.trust(self.authority.certificate, self.authority.refusing())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tls://127.0.0.1:{probe.getsockname()[1]}"

    def trust(self, authorities: str, refused: str, *, but: str = "old-client") -> None:
        """Give all but one their authorities, and whom these refuse."""
        for name in self.numbers:
            if name != but or not (self.folder / name / "ca.crt").exists():
                for file, content in (("ca.crt", authorities), ("ca.crl", refused)):
                    (self.folder / name / "part").write_text(content)
                    (self.folder / name / "part").rename(self.folder / name / file)

    def environment(self, name: str) -> dict[str, str]:
        files = {"CA_FILE": "ca.crt"}
        for role in ("SCHEDULER", "WORKER", "CLIENT"):
            files |= {f"{role}__CERT": "tls.crt", f"{role}__KEY": "tls.key"}
        tls = {f"DASK_DISTRIBUTED__COMM__TLS__{key}": str(self.folder / name / file) for key, file in files.items()}
        return {**os.environ, **tls, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}

    @contextmanager
    def process(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_" + words[0],
            *words[1:],
            "--preload",
            "tritoncluster.tls",
        ]
        with subprocess.Popen(command, env=self.environment(name), cwd=self.folder) as process:
            try:
                yield process
            finally:
                process.terminate()

    def scheduler(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        port = self.address.rpartition(":")[2]
        words = ("--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0")
        return self.process("desktop", "scheduler", *words)

    @contextmanager
    def client(self, name: str = "client", timeout: str = "30 s") -> Iterator[Client]:
        own = self.folder / name
        files = {"tls_client_cert": str(own / "tls.crt"), "tls_client_key": str(own / "tls.key")}
        security = Security(require_encryption=True, tls_ca_file=str(own / "ca.crt"), **files)
        with Client(self.address, security=security, timeout=timeout, set_as_default=False) as client:
            yield client


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    with ExitStack() as processes:
        processes.enter_context(room.scheduler())
        for name in WORKERS:
            own = ("--name", name, "--host", "127.0.0.1", "--no-dashboard", "--preload-nanny", "tritoncluster.tls")
            processes.enter_context(room.process(name, "worker", room.address, "--nthreads", "1", *own))
        with room.client() as client:
            client.wait_for_workers(len(WORKERS), timeout=WAIT)
        yield room


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def names(client: Client) -> set[str]:
    return {worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}


def compute(client: Client) -> list[int]:
    """Have each worker send a value to each other."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    numbers = [client.submit(operator.add, 1, number, workers=[at]) for number, at in enumerate(workers)]
    return client.gather([client.submit(sum, numbers, workers=[at], pure=False) for at in workers])


def test_who_is_refused_is_out_and_stays_out(room: Room) -> None:
    with room.client() as client:
        follow(client)
        assert compute(client) == [3, 3]
        addresses = {each["name"]: at for at, each in client.scheduler_info(n_workers=-1)["workers"].items()}
        room.trust(room.authority.certificate, room.authority.refusing(room.numbers["laptop"]), but="laptop")
        until(lambda: names(client) == {"desktop"})
        assert compute(client) == [1]
    # Not the scheduler alone: whoever reaches a worker can have it compute.
    for address in (room.address, addresses["desktop"]):
        room.address = address
        with pytest.raises(OSError, match=REFUSED), room.client("laptop", timeout="5 s"):
            pass


def test_another_authority_takes_over_from_one_that_is_trusted_meanwhile(room: Room) -> None:
    old, new = room.authority, Authority("another")
    with room.client() as client:
        follow(client)
        before = client.run(os.getpid)
        room.trust(new.certificate + old.certificate, new.refusing() + old.refusing())
        for name in (*WORKERS, "client"):
            new.give(room.folder / name, name)
            # Old ones and new ones talk.
            assert compute(client) == [3, 3]
            with room.client() as another:
                assert compute(another) == [3, 3]
        room.trust(new.certificate, new.refusing())
        with room.client() as another:
            assert compute(another) == [3, 3]
            assert another.run(os.getpid) == before
        assert compute(client) == [3, 3]
    # It trusts them, they do not trust it.
    (room.folder / "old-client/ca.crt").write_text(new.certificate)
    with pytest.raises(OSError, match=REFUSED), room.client("old-client", timeout="5 s"):
        pass


def test_who_waits_for_a_scheduler_finds_one_of_another_authority(tmp_path: Path) -> None:
    room, own = Room(tmp_path), tmp_path / "client"
    tls = "distributed.comm.tls"
    files = {f"{tls}.ca-file": "ca.crt", f"{tls}.client.cert": "tls.crt", f"{tls}.client.key": "tls.key"}
    with dask.config.set({name: str(own / file) for name, file in files.items()}):
        arguments = connection_arguments("client")
    new = Authority("another")
    for name in ("desktop", "client"):
        new.give(tmp_path / name, name)
    room.trust(new.certificate, new.refusing())
    with room.scheduler():
        asyncio.run(asyncio.wait_for(listens(room.address, arguments), WAIT))
