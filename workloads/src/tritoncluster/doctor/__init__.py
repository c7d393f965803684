"""Checks of a live cluster, each with what to do about what it finds."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from distributed import Client

from tritoncluster.doctor import agreement, arithmetic, hosts, probes
from tritoncluster.doctor.finding import Finding, count, fine, unchecked, wrong
from tritoncluster.doctor.network import PAIR_SECONDS, connections
from tritoncluster.nodes import Worker, ask_scheduler, ask_workers, workers
from tritoncluster.versions import installed, minor, on_nodes

__all__ = ["Finding", "examine"]

#: For everything, in seconds, however many nodes hang.
SECONDS = 30.0
#: For the first worker to come.
WAIT_SECONDS = 5.0
#: For a node to answer a small question.
ANSWER_SECONDS = 5.0


def examine(client: Client) -> Iterator[Finding]:
    """Check the cluster of `client`; yield what is found as the checks finish.

    It ends after about half a minute, also when nodes hang; those are named, and left out of the checks that would need
    them. Tasks that run meanwhile go on. A check that fails itself is a finding too.
    """
    yield from _Examination(client).findings()


class _Examination:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.end = time.monotonic() + SECONDS

    def findings(self) -> Iterator[Finding]:
        try:
            known = self.wait_for_workers()
            there = on_nodes(self.client, seconds=self.left(ANSWER_SECONDS))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor has to say
            yield unchecked("workers", "scheduler", error)
            return
        yield from _present(known, there)
        here = installed()
        yield from _guarded("versions", agreement.versions(here, there))
        # Byte-code of another Python could crash them.
        able = {node for node, versions in there.items() if minor(versions["python"]) == minor(here["python"])}
        asked = [worker for worker in known if worker.name in able]

        if not known:
            return
        yield from _guarded("image", self.images(asked, scheduler="scheduler" in able))
        yield from _guarded("connections", self.connections(asked, known))
        seats = list[hosts.Seat]()
        yield from _guarded("machines", self.machines(asked, seats))
        hostnames = {worker.address: machine.hostname for worker, machine in seats}
        yield from _guarded(
            "clocks",
            agreement.clocks(
                self.client, asked, hostnames, scheduler="scheduler" in there, seconds=self.left(ANSWER_SECONDS)
            ),
        )
        if seats:
            for check in (hosts.architectures, hosts.memory, hosts.spilling, hosts.processors, hosts.power):
                yield from _guarded(check.__name__, check(seats))
        yield from _guarded("arithmetic", self.arithmetic(asked))

    def left(self, at_most: float) -> float:
        """Give the seconds that a step may take."""
        return max(1.0, min(at_most, self.end - time.monotonic()))

    def wait_for_workers(self) -> list[Worker]:
        end = time.monotonic() + WAIT_SECONDS
        while not (known := workers(self.client)) and time.monotonic() < end:
            time.sleep(0.1)
        return known

    def images(self, asked: Sequence[Worker], *, scheduler: bool) -> Iterator[Finding]:
        answers = {}
        if scheduler:
            answers["scheduler"] = ask_scheduler(self.client, probes.image, seconds=self.left(ANSWER_SECONDS))
        of_workers = self.ask(asked, probes.image, seconds=ANSWER_SECONDS)
        answers |= {worker.name: of_workers[worker.address] for worker in asked}
        sound = yield from _sound("image", answers)
        yield from agreement.images(probes.image(), sound)

    def connections(self, asked: Sequence[Worker], known: Sequence[Worker]) -> Iterator[Finding]:
        # All get the whole list, and each leaves itself out.
        addresses = [worker.address for worker in known]
        answers = self.ask(asked, probes.reach, addresses, PAIR_SECONDS, seconds=2 * PAIR_SECONDS)
        yield from connections(known, answers)

    def machines(self, asked: Sequence[Worker], seats: list[hosts.Seat]) -> Iterator[Finding]:
        answers = self.ask(asked, probes.machine, seconds=ANSWER_SECONDS)
        sound = yield from _sound("machines", {worker.name: answers[worker.address] for worker in asked})
        seats += [(worker, hosts.Machine(**sound[worker.name])) for worker in asked if worker.name in sound]

    def arithmetic(self, asked: Sequence[Worker]) -> Iterator[Finding]:
        # It may have to import scikit-learn first, which takes a small computer many seconds: all that is left.
        answers = self.ask(asked, arithmetic.calculate, seconds=SECONDS)
        sound = yield from _sound("arithmetic", {worker.name: answers[worker.address] for worker in asked})
        yield from arithmetic.judge_threads(sound)
        yield from arithmetic.judge(sound)

    def ask(
        self, asked: Sequence[Worker], question: Callable[..., Any], *arguments: Any, seconds: float
    ) -> dict[str, Any]:
        addresses = [worker.address for worker in asked]
        return ask_workers(self.client, addresses, question, *arguments, seconds=self.left(seconds))


def _present(known: Sequence[Worker], there: Mapping[str, Any]) -> Iterator[Finding]:
    if not known:
        yield wrong("workers", "scheduler", "it has no workers", "start one on each host: dask worker ADDRESS")
        return
    silent = [node for node in ("scheduler", *(worker.name for worker in known)) if node not in there]
    for node in silent:
        yield wrong(
            "workers",
            node,
            f"does not answer within {ANSWER_SECONDS:g} s",
            "see in its log and on its host whether it hangs or is cut off, and restart it",
        )
    if not silent:
        threads = sum(worker.threads for worker in known)
        yield fine("workers", f"{len(known)} with {count(threads, 'thread')}")


def _sound(check: str, answers: Mapping[str, Any]) -> Generator[Finding, None, dict[str, Any]]:
    """Yield a finding for each node whose answer is an exception; return the other answers."""
    for node, answer in answers.items():
        if isinstance(answer, Exception):
            yield unchecked(check, node, answer)
    return {node: answer for node, answer in answers.items() if not isinstance(answer, Exception)}


def _guarded(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - a defect of one check must not hide the others
        yield unchecked(check, "", error)
