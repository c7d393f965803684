"""Checks of a live cluster, each with what to do about what it finds."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from distributed import Client

from tritoncluster.doctor import agreement, arithmetic, hosts, probes, silent
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

    It ends after half a minute at the latest, also when nodes hang; each of those is named on a line of its own, and
    left out of the checks that would need it. Tasks that run meanwhile go on. A check that fails itself is a finding
    too.
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
            yield replace(unchecked("workers", "scheduler", error), looked=False)
            return
        here = installed()
        # Byte-code of another Python could crash them.
        able = {node for node, versions in there.items() if minor(versions["python"]) == minor(here["python"])}
        answering = [worker for worker in known if worker.name in there]
        asked = [worker for worker in known if worker.name in able]

        yield from self.present(known, answering, there, scheduler="scheduler" in able)
        yield from _guarded("versions", agreement.versions(here, there))
        if not answering:
            return
        yield from _guarded("image", self.images(answering, scheduler="scheduler" in there))
        yield from _guarded("connections", self.connections(asked, answering))
        seats = list[hosts.Seat]()
        yield from _guarded("machines", self.machines(asked, seats))
        hostnames = {worker.address: machine.hostname for worker, machine in seats}
        clocks = agreement.clocks(
            self.client, answering, hostnames, scheduler="scheduler" in there, seconds=self.left(ANSWER_SECONDS)
        )
        yield from _guarded("clocks", clocks)
        if seats:
            for check in (
                *(hosts.architectures, hosts.memory, hosts.spilling),
                *(hosts.folders, hosts.processors, hosts.power),
            ):
                yield from _guarded(check.__name__, check(seats))
        if asked:
            yield from _guarded("arithmetic", self.arithmetic(asked))

    def left(self, at_most: float) -> float:
        """Give the seconds that a step may take."""
        return max(1.0, min(at_most, self.end - time.monotonic()))

    def wait_for_workers(self) -> list[Worker]:
        end = time.monotonic() + WAIT_SECONDS
        while not (known := workers(self.client)) and time.monotonic() < end:
            time.sleep(0.1)
        return known

    def present(
        self, known: Sequence[Worker], answering: Sequence[Worker], there: Mapping[str, Any], *, scheduler: bool
    ) -> Iterator[Finding]:
        if not known:
            yield wrong("workers", "scheduler", "it has no workers", "start one on each host: dask worker ADDRESS")
            return
        if "scheduler" not in there:
            yield wrong(
                "workers",
                "scheduler",
                f"lists its workers, but does not run a function within {ANSWER_SECONDS:g} s",
                "see in its log and on its host whether it is overloaded; it needs a processor of its own",
            )
        missing = [worker for worker in known if worker not in answering]
        if missing:
            yield from _guarded("workers", silent.findings(self.client, missing, scheduler=scheduler))
        elif "scheduler" in there:
            threads = sum(worker.threads for worker in known)
            yield fine("workers", f"{len(known)} with {count(threads, 'thread')}")

    def images(self, asked: Sequence[Worker], *, scheduler: bool) -> Iterator[Finding]:
        # A function of the standard library's: also for those with another Python.
        answers = {}
        if scheduler:
            answers["scheduler"] = ask_scheduler(
                self.client, os.getenv, probes.IMAGE, "", seconds=self.left(ANSWER_SECONDS)
            )
        of_workers = self.ask(asked, os.getenv, probes.IMAGE, "", seconds=ANSWER_SECONDS)
        answers |= {worker.name: of_workers[worker.address] for worker in asked}
        sound = yield from _sound("image", answers)
        yield from agreement.images(os.getenv(probes.IMAGE, ""), sound)

    def connections(self, asked: Sequence[Worker], answering: Sequence[Worker]) -> Iterator[Finding]:
        # All get the whole list, and each leaves itself out.
        addresses = [worker.address for worker in answering]
        answers = self.ask(asked, probes.reach, addresses, PAIR_SECONDS, seconds=2 * PAIR_SECONDS)
        yield from connections(answering, answers)

    def machines(self, asked: Sequence[Worker], seats: list[hosts.Seat]) -> Iterator[Finding]:
        answers = self.ask(asked, probes.machine, seconds=ANSWER_SECONDS)
        sound = yield from _sound("machines", {worker.name: answers[worker.address] for worker in asked})
        seats += [(worker, hosts.Machine(**sound[worker.name])) for worker in asked if worker.name in sound]

    def arithmetic(self, asked: Sequence[Worker]) -> Iterator[Finding]:
        with ThreadPoolExecutor(1) as pool:
            # Meanwhile: either side may have to import scikit-learn first, which takes a small computer many seconds.
            here = pool.submit(arithmetic.compute)
            answers = self.ask(asked, arithmetic.calculate, seconds=SECONDS)
        sound = yield from _sound("arithmetic", {worker.name: answers[worker.address] for worker in asked})
        yield from arithmetic.judge_threads(sound)
        yield from arithmetic.judge(sound, here.result())

    def ask(
        self, asked: Sequence[Worker], question: Callable[..., Any], *arguments: Any, seconds: float
    ) -> dict[str, Any]:
        addresses = [worker.address for worker in asked]
        return ask_workers(self.client, addresses, question, *arguments, seconds=self.left(seconds))


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
