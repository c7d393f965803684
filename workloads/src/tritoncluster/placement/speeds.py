"""How fast workers are, learned from tasks of any kind and length; knows neither Dask nor a clock.

The model is log(seconds) = length of the kind - speed of the worker + noise of the kind. Each finished task moves both
estimates by what a Kalman filter of these two states would, without their covariance.
"""

import math
from dataclasses import dataclass, field

#: Seconds below which a task tells of overhead rather than of a machine.
SHORT = 0.005
#: Variances of logarithms: of a worker of which nothing is known; of what is measured of a kind, before it is known,
#: and its limits; what a speed may change from one task to the next; what the first task of a kind on a worker, which
#: imports and compiles, adds.
UNKNOWN, NOISE, LEAST_NOISE, MOST_NOISE, DRIFT, FIRST = 1.0, 0.05, 0.01, 4.0, 0.002, 0.15
#: Standard deviations beyond which a task is an outlier, and by how much more doubt one leaves.
OUTLIER, DOUBT = 3.0, 0.02
#: Tasks of a kind, after others of it on the same worker, that tell how unlike they are.
REPEATED = 2
#: Of a kind's mean length, the weight of the last task, at least.
RECENT = 0.05
#: Kinds that are remembered.
MOST_KINDS = 2000


@dataclass
class _Worker:
    speed: float = 0.0
    variance: float = UNKNOWN
    #: Kind -> logarithm of the last task's seconds.
    last: dict[str, float] = field(default_factory=dict)


@dataclass
class _Kind:
    length: float
    variance: float
    noise: float = NOISE
    repeated: int = 0
    tasks: int = 0
    #: Seconds at speed 1; the mean, where `length` is the mean of logarithms.
    seconds: float = 0.0


class Speeds:
    """Speeds of workers by name, and lengths of kinds of tasks in seconds at speed 1.

    Only ratios mean anything: the first worker that is seen has speed 1 at that moment.
    """

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._kinds: dict[str, _Kind] = {}

    def learn(self, worker: str, kind: str, seconds: float, certainty: float = 1.0) -> None:
        """Take in a finished task.

        Parameters
        ----------
        worker, kind
            Names: which, and of what.
        seconds
            That it took; below `SHORT`, nothing is learned.
        certainty
            Between 0 and 1: how much it tells, as of a worker with idle threads, which is faster than a busy one.
        """
        if seconds >= SHORT:
            known = self._learn(worker, kind, math.log(seconds), certainty)
            known.tasks += 1
            at_one = seconds * self.speed(worker)
            known.seconds += max(RECENT, 1 / known.tasks) * (at_one - known.seconds)

    def learn_speed(self, worker: str, work: str, speed: float) -> None:
        """Take in what someone else measured, in units of their own for each work."""
        self._learn(worker, f"speed of {work}", -math.log(speed), 1.0)

    def _learn(self, worker: str, kind: str, log: float, certainty: float) -> _Kind:
        state = self._workers.get(worker)
        if state is None:
            # The first of all sets the scale.
            state = self._workers[worker] = _Worker(variance=UNKNOWN if self._workers else LEAST_NOISE)
        known = self._kinds.get(kind)
        if known is None:
            known = self._new_kind(kind, log + state.speed, state.variance)
        last = state.last.get(kind)
        state.last[kind] = log
        if last is not None:
            # What differs on one worker is no matter of speed.
            known.repeated += 1
            weight = max(RECENT, 1 / (known.repeated + 2))
            known.noise += weight * (min(MOST_NOISE, (log - last) ** 2 / 2) - known.noise)
            known.noise = max(LEAST_NOISE, known.noise)
        noise = (known.noise + (FIRST if last is None else 0.0)) / max(certainty, 1e-3)
        self._move(state, known, known.length - state.speed - log, noise)
        return known

    def _new_kind(self, kind: str, length: float, variance: float) -> _Kind:
        while len(self._kinds) >= MOST_KINDS:
            oldest = next(iter(self._kinds))
            del self._kinds[oldest]
            for worker in self._workers.values():
                worker.last.pop(oldest, None)
        known = self._kinds[kind] = _Kind(length, variance + NOISE)
        return known

    def _move(self, state: _Worker, known: _Kind, faster: float, noise: float) -> None:
        total = state.variance + known.variance + noise
        limit = OUTLIER * math.sqrt(total)
        outlier = abs(faster) > limit
        clipped = max(-limit, min(limit, faster))
        of_worker, of_kind = state.variance / total, known.variance / total
        state.speed += of_worker * clipped
        known.length -= of_kind * clipped
        state.variance = min(UNKNOWN, (1 - of_worker) * state.variance + DRIFT + (DOUBT if outlier else 0.0))
        known.variance *= 1 - of_kind

    def knows(self, worker: str) -> bool:
        """Tell whether anything is known of a worker."""
        return worker in self._workers

    def speed(self, worker: str) -> float:
        """Give a worker's speed; 1 where it is not known."""
        state = self._workers.get(worker)
        return math.exp(state.speed) if state else 1.0

    def bounds(self, worker: str, deviations: float = 1.0) -> tuple[float, float]:
        """Give the least and the greatest speed that a worker is likely to have, so many standard deviations away."""
        state = self._workers.get(worker)
        if state is None:
            return 0.0, math.inf
        deviation = deviations * math.sqrt(state.variance)
        return math.exp(state.speed - deviation), math.exp(state.speed + deviation)

    def seconds(self, kind: str) -> float | None:
        """Give the mean length of a kind in seconds at speed 1, None where it is not known."""
        known = self._kinds.get(kind)
        return known.seconds if known and known.tasks else None

    def varies(self, kind: str) -> float:
        """Give by which factor tasks of a kind differ in length, as one standard deviation of logarithms.

        It is infinite before a worker has finished so many of them that it can be told.
        """
        known = self._kinds.get(kind)
        return math.exp(math.sqrt(known.noise)) if known and known.repeated >= REPEATED else math.inf

    def variation(self, kind: str) -> float:
        """Give the squared coefficient of variation of a kind's lengths, as of a lognormal one; 1 at most."""
        return min(1.0, math.expm1(self._noise(kind) - LEAST_NOISE))

    def _noise(self, kind: str) -> float:
        known = self._kinds.get(kind)
        return known.noise if known else NOISE

    def forget(self, worker: str) -> None:
        """Let go of a worker."""
        self._workers.pop(worker, None)

    def known(self) -> dict[str, float]:
        """Give the speeds of all workers that are known, by name."""
        return {name: math.exp(state.speed) for name, state in self._workers.items()}
