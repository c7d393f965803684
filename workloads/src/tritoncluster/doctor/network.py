"""Whether workers reach each other: results travel from worker to worker, not through the scheduler."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tritoncluster.doctor.finding import Finding, fine, unchecked, wrong
from tritoncluster.doctor.probes import SILENT
from tritoncluster.nodes import Worker
from tritoncluster.versions import name_some

#: For one connection, bytes there and back included, in seconds.
PAIR_SECONDS = 3.0
#: What to do about a port that takes no connections, and about one that does but is of no use.
OPEN = "open that port in its firewall; start it with a --host or --contact-address that the others reach"
RESTART = "see in its log and on its host what it hangs in, and restart it"


def connections(workers: Sequence[Worker], answers: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what workers said of reaching each other.

    Parameters
    ----------
    workers
        All that should be reached. None is told about when nobody was asked.
    answers
        Address of a worker that was asked -> what `tritoncluster.doctor.probes.reach` gave, or an exception.
    """
    names = {worker.address: worker.name for worker in workers}
    failed: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    pairs, sound = 0, True
    for source, answer in answers.items():
        if isinstance(answer, Exception):
            sound = False
            yield unchecked("connections", names[source], answer)
            continue
        for target, problem in answer.items():
            pairs += 1
            if problem:
                failed[target, problem].append(names[source])
    for (target, problem), sources in failed.items():
        sound = False
        yield wrong(
            "connections",
            names[target],
            f"not reached from {name_some(tuple(sources))} at {target}: {problem}",
            RESTART if problem == SILENT else OPEN,
        )
    if answers and sound:
        yield fine(
            "connections", f"{pairs} of {pairs} ways between workers open" if pairs else "only one worker to ask"
        )
