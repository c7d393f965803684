"""Several clients on one cluster: each has its share of every worker, whatever kind of work it has."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import pytest
from calls import nothing_left, slow_square
from distributed import Client
from joblib import Parallel, delayed, parallel_config

from tritoncluster.balance import BalancedBackend, balanced_map, internals, observed
from tritoncluster.balance.turns import Seen
from tritoncluster.cluster import connect
from tritoncluster.errors import InputError

#: Seconds after which a test gives up.
PATIENCE = 300


class Log:
    """Who did how many items, in the order in which they were done, on all workers of this machine."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log"
        self._path.touch()

    def item(self, who: str, seconds: float = 0.01) -> Callable[[object], str]:
        """Make a function that does an item of somebody, who is a letter."""
        path = str(self._path)

        def work(_item: object) -> str:
            time.sleep(seconds)
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(file, who.encode())
            os.close(file)
            return who

        return work

    def read(self) -> str:
        return self._path.read_text()

    def wait(self, enough: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + PATIENCE
        while not enough(done := self.read()):
            assert time.monotonic() < deadline, Counter(done)
            time.sleep(0.02)
        return done


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture(scope="module")
def several() -> Iterator[list[Client]]:
    """Four clients of one cluster with two workers."""
    with connect(workers=2) as first:
        others = [Client(first.scheduler.address, set_as_default=False) for _ in range(3)]
        yield [first, *others]
        for client in others:
            client.close()


@pytest.fixture(scope="module")
def threaded() -> Iterator[list[Client]]:
    """Two clients of one worker with four threads."""
    with (
        connect(workers=1, threads_per_worker=4) as first,
        Client(first.scheduler.address, set_as_default=False) as second,
    ):
        yield [first, second]


@contextmanager
def endless(client: Client, work: Callable[[object], object], **options: float) -> Iterator[None]:
    """Let maps go on and on, until the context ends."""
    ended = threading.Event()

    def run() -> None:
        # A map packs all that it may hold before it begins: not too much.
        while not ended.is_set():
            for _ in balanced_map(work, range(2000), client, ordered=False, **options):
                if ended.is_set():
                    break

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def jain(counts: list[int]) -> float:
    """Give Jain's index of fairness: 1 where all have the same, 1/n where one has all."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_equal_runs_have_equal_shares(several: list[Client], log: Log, number: int):
    with ExitStack() as runs:
        for place in range(number):
            runs.enter_context(endless(several[place], log.item("abcd"[place])))
        done = log.wait(lambda done: len(set(done)) == number)
        start = len(done)
        done = log.wait(lambda done: len(done) > start + 250 * number)
    assert jain([Counter(done[start:])[who] for who in "abcd"[:number]]) > 0.8


def test_shares_are_by_weight(several: list[Client], log: Log):
    with endless(several[0], log.item("a"), weight=3), endless(several[1], log.item("b")):
        start = len(log.wait(lambda done: len(set(done)) == 2))
        counts = Counter(log.wait(lambda done: len(done) > start + 800)[start:])
    assert 1.5 < counts["a"] / counts["b"] < 6


def test_a_third_comes_and_goes(several: list[Client], log: Log):
    with endless(several[0], log.item("a")), endless(several[1], log.item("b")):
        log.wait(lambda done: len(set(done)) == 2)
        before = len(log.read())
        assert list(balanced_map(log.item("c"), range(200), several[2], ordered=False)) == ["c"] * 200
        third = log.read()[before:]
        start = len(log.read())
        after = log.wait(lambda done: len(done) > start + 400)[start:]
    # While it was there, it had about a third; a chunk may come late.
    counts = Counter(third[third.index("c") : third.rindex("c")])
    assert counts["c"] > 0.15 * sum(counts.values())
    assert jain([Counter(after)[who] for who in "ab"]) > 0.8
    # The copy of an item that another worker was faster with may still come to its end.
    assert "c" not in after[50:]


def test_short_run_beside_a_long_one_ends_first_and_both_go_on(several: list[Client], log: Log):
    with endless(several[0], log.item("a")):
        # Its chunks are long by now.
        log.wait(lambda done: done.count("a") > 300)
        assert list(balanced_map(log.item("b"), range(150), several[1])) == ["b"] * 150
    done = log.read()
    between = Counter(done[done.index("b") : done.rindex("b")])
    assert 20 < between["a"] < 600


# Those of one group wait at the scheduler until a worker has room, those with names of their own go to workers at once.
@pytest.mark.parametrize("grouped", [True, False], ids=["at_the_scheduler", "on_workers"])
def test_ordinary_tasks_have_their_share(several: list[Client], log: Log, *, grouped: bool):
    with endless(several[0], log.item("a")):
        log.wait(lambda done: done.count("a") > 300)
        work = log.item("b", 0.02)
        if grouped:
            futures = several[1].map(work, range(100), pure=False)
        else:
            futures = [several[1].submit(work, 0, key=f"task{number}of{id(log)}") for number in range(100)]
        assert several[1].gather(futures) == ["b"] * 100
    done = log.read()
    between = Counter(done[done.index("b") : done.rindex("b")])
    # An item of ours is half as long.
    assert 20 < between["a"] < 1500


def test_tasks_that_never_get_beyond_the_scheduler_have_their_share(log: Log):
    # No worker gets more tasks than it has threads: ours take them all.
    with dask.config.set({"distributed.scheduler.worker-saturation": 1.0}), connect(workers=2) as client:
        other = Client(client.scheduler.address, set_as_default=False)
        with endless(client, log.item("a")):
            log.wait(lambda done: done.count("a") > 300)
            assert other.gather(other.map(log.item("b", 0.02), range(100), pure=False)) == ["b"] * 100
        other.close()
    done = log.read()
    assert Counter(done[done.index("b") : done.rindex("b")])["a"] < 1500


def test_threads_of_one_worker_are_shared(threaded: list[Client], log: Log):
    with endless(threaded[0], log.item("a")):
        log.wait(lambda done: done.count("a") > 300)
        with endless(threaded[1], log.item("b")):
            start = len(log.wait(lambda done: "b" in done))
            runs = Counter(log.wait(lambda done: len(done) > start + 1000)[start:])
        threaded[1].gather(threaded[1].map(log.item("c"), range(300), pure=False))
    # Half is the least: one has all.
    assert jain([runs["a"], runs["b"]]) > 0.6
    done = log.read()
    assert 30 < Counter(done[done.index("c") : done.rindex("c")])["a"] < 3000


@pytest.mark.slow
def test_an_item_that_cannot_be_split_is_paid_for(several: list[Client], log: Log):
    with endless(several[0], log.item("a", 0.5)), endless(several[1], log.item("b")):
        start = len(log.wait(lambda done: len(set(done)) == 2))
        counts = Counter(log.wait(lambda done: done[start:].count("a") >= 12)[start:])
    assert 100 < counts["b"] < 3000


def test_results_are_what_they_are_alone(several: list[Client]):
    expected = [number * number for number in range(300)]
    with endless(several[0], lambda _item: time.sleep(0.01)):
        assert list(balanced_map(slow_square, range(300), several[1])) == expected
        with parallel_config(BalancedBackend(several[2], weight=2)):
            assert Parallel()(delayed(slow_square)(number) for number in range(300)) == expected
    assert all(nothing_left(client) for client in several)


def test_worker_that_goes_while_a_chunk_makes_room(log: Log):
    with connect(workers=2) as client:
        other = Client(client.scheduler.address, set_as_default=False)
        with endless(client, log.item("a")):
            results = balanced_map(log.item("b"), range(400), other)
            found = [next(results) for _ in range(50)]
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, 9)
            assert [*found, *results] == ["b"] * 400
        other.close()


def test_run_says_who_else_used_its_workers(several: list[Client], log: Log):
    with endless(several[0], log.item("a"), weight=2), observed() as summaries:
        log.wait(lambda done: done.count("a") > 100)
        futures = several[1].map(log.item("p"), range(200), pure=False)
        list(balanced_map(log.item("b"), range(200), several[2]))
        several[1].gather(futures)
    (summary,) = [summary for summary in summaries if summary.shares and summary.weight == 1]
    content = summary.to_json()
    by_work = {other["work"]: other for other in content["others"]}
    assert by_work["work"]["weight"] == 2
    assert by_work["work"]["who"]
    assert by_work[""]["who"] == ""
    assert by_work[""]["weight"] is None
    used = sum(other["busy_seconds"] for other in content["others"])
    assert used == pytest.approx(sum(worker["others_busy_seconds"] for worker in content["workers"]))
    assert used > 0.5


def test_scheduler_counts_clients_with_other_work(several: list[Client], log: Log):
    def others() -> tuple[int, bool]:
        return several[3].run_on_scheduler(internals.others_work)

    assert others() == (0, False)
    with endless(several[0], log.item("a")):
        log.wait(lambda done: "a" in done)
        assert others() == (0, False)
        first = several[1].map(log.item("b", 0.1), range(60), pure=False)
        second = several[2].submit(log.item("c", 0.1), 0, pure=False, priority=-1)
        deadline = time.monotonic() + PATIENCE
        while others() != (2, True):
            assert time.monotonic() < deadline
        several[1].cancel(first)
        second.result()
    assert others() == (0, False)


@pytest.mark.parametrize("weight", [0, 0.05, 11, -1, float("nan"), "much", None])
def test_weight_that_is_none_is_refused(client: Client, weight: object):
    with dask.config.set({"tritoncluster.weight": "many"}):
        with pytest.raises(InputError, match=r"give a number from 0\.1 to 10"):
            balanced_map(abs, [1], client, weight=weight)
        with pytest.raises(InputError, match=r"give a number from 0\.1 to 10"):
            BalancedBackend(client, weight=weight)


def test_weight_is_configured(client: Client):
    with dask.config.set({"tritoncluster.weight": "2.5"}), observed() as summaries:
        list(balanced_map(abs, [1], client))
    assert summaries[0].weight == 2.5


def test_what_is_on_a_worker_is_seen_there(threaded: list[Client], tmp_path: Path):
    said = {"run": "r1", "weight": 2.0, "work": "look", "who": "somebody"}
    seen_all = tmp_path / "seen"

    async def wait_in_the_event_loop() -> None:
        while not seen_all.exists():  # noqa: ASYNC110 - it is another process that makes it
            await asyncio.sleep(0.05)

    def wait(_number: int) -> None:
        while not seen_all.exists():
            time.sleep(0.05)

    def look(key: str) -> tuple[bool, bool, Seen, object]:
        tasks = internals.WorkerTasks()
        deadline = time.monotonic() + PATIENCE
        while (seen := tasks.seen()).ready + len(seen.chunks) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        return tasks.in_thread, tasks.closing, seen, tasks.said_of(key)

    # One in the event loop, three in threads, and what waits for them.
    client = threaded[0]
    waiting = [client.submit(wait_in_the_event_loop), *client.map(wait, range(2))]
    while len(next(iter(client.processing().values()))) < 3:
        time.sleep(0.05)
    with dask.annotate(**{internals.ANNOTATION: said}):
        ours = [client.submit(look, "look", key="look"), client.submit(int, key="also-ours")]
    waiting += [client.submit(int, key=f"behind-{number}") for number in range(3)]
    try:
        in_thread, closing, seen, told = ours[0].result()
    finally:
        seen_all.touch()
        client.gather([*waiting, ours[1]])
    assert (in_thread, closing, told) == (True, False, said)
    assert seen == Seen(4, {"look": said, "also-ours": said}, 2, 3)
