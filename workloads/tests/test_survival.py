"""Processes are killed at random, also in the middle of a write: each job that was accepted ends exactly once.

`make survival KILLS=300 SEED=7` kills more of them; the seed gives who is killed, and about when.
"""

import logging
import os
import random
from pathlib import Path
from uuid import uuid4

import pytest
from jobs_service import service, wait_for
from killer import OURS, Killer, left, victims
from remote import remote

logger = logging.getLogger(__name__)

KILLS, SEED = int(os.environ.get("KILLS") or 40), int(os.environ.get("SEED") or 1)


@pytest.mark.timeout(300 + 30 * KILLS)
def test_whoever_is_killed_accepted_jobs_end_once_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger.warning("KILLS=%d SEED=%d", KILLS, SEED)
    mark = uuid4().hex
    monkeypatch.setenv(OURS, mark)
    stream = random.Random(SEED)  # noqa: S311 - whoever has the seed can repeat it
    with remote(tmp_path / "cluster", 0) as cluster:
        for _ in range(2):
            cluster.keep_worker()
        # For the service and its jobs alone.
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("faults")))
        monkeypatch.setenv("TRITONCLUSTER_TRAPS", str(tmp_path / "traps"))
        with service(tmp_path / "service", cluster.address, at_once=2) as jobs:
            killer = Killer(cluster, jobs, tmp_path, stream)
            killer.begin()
            for place, victim in enumerate(victims(stream, KILLS), 1):
                logger.warning("%d: %s", place, victim)
                killer.kill(victim)
            killer.finish()
    wait_for(lambda: not left(mark))
