"""Whether a worker that is late is slow or gone: asked of itself, else of its nanny.

A worker whose tasks sleep or compute answers in its event loop. Where one task holds the interpreter's lock, nobody in
that process answers; but its nanny does, which sees that the process gets processor time. A process that is stopped, or
waits for a device that doesn't answer, gets none.
"""

import asyncio
from pathlib import Path
from typing import Any

from distributed import Client

#: Seconds that a worker, and then its nanny, has for an answer.
ANSWER = 2.0
#: Seconds between two looks at a process, which has to get some processor time in between, be it little.
BETWEEN = 1.0


async def is_alive(client: Client, address: str) -> bool:
    """Tell whether the worker at `address` is worth waiting for; in a few seconds, whatever it does."""
    if await _ask(client, answers, address, seconds=ANSWER):
        return True
    return bool(await _ask(client, process_moves, address, seconds=ANSWER + BETWEEN, nanny=True))


async def _ask(client: Client, question: Any, address: str, *, seconds: float, nanny: bool = False) -> Any:
    try:
        asked = client.run(question, workers=[address], nanny=nanny, on_error="ignore")
        found = await asyncio.wait_for(asked, seconds)
    except Exception:  # noqa: BLE001 - whatever goes wrong, it is no answer
        return None
    return found.get(address)


async def answers() -> bool:
    """Answer; runs in a worker's event loop."""
    return True


async def process_moves(dask_worker: Any) -> bool:
    """Tell whether a nanny's worker gets processor time; runs in the nanny's event loop."""
    process = getattr(dask_worker.process, "pid", None)
    before = processor_ticks(process)
    await asyncio.sleep(BETWEEN)
    after = processor_ticks(process)
    return before is not None and after is not None and after > before


def processor_ticks(pid: int | None) -> int | None:
    """Give the processor time that a process has had, in ticks; None for one that can't be seen, or is stopped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # After the name, which may have blanks and brackets: state, ..., user time, system time (man proc_pid_stat).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "TtZX" else int(fields[11]) + int(fields[12])
