"""The figures of the poster that this project takes its jobs from, beside those of a run.

They are put side by side where a run has the poster's sizes; elsewhere the page says that they differ. Times come from
other hardware in any case: up to four Raspberry Pis, a laptop and a desktop.
"""

import math
from typing import TYPE_CHECKING

from tritoncluster.report import text
from tritoncluster.report.content import Block, Paragraph, Table

if TYPE_CHECKING:
    from tritoncluster.jobs.grid_search import GridSearchResult
    from tritoncluster.record import Record

TITLE = "Beside the poster"
TREES = 8000
#: Machines, cores, seconds.
FOREST_TIMES = (
    ("one machine, serial", "1", 901),
    ("1 Raspberry Pi and a laptop", "11", 237),
    ("2 Raspberry Pis and a laptop", "15", 181),
    ("3 Raspberry Pis and a laptop", "19", 152),
    ("4 Raspberry Pis and a laptop", "23", 134),
    ("4 Raspberry Pis, a laptop and a desktop", "30", 124),
)
GRID = {"samples": 20_000, "cv": 3, "grid": None}
GRID_SECONDS = 1534
GRID_SCORE, GRID_HEAD = 0.87735, [0, 1, 0, 1, 1]
#: The score of C=0.001 on the first split.
GRID_SPLITS = {"rbf": 0.821509, "poly": 0.796610}
OPTION = {"spot": 100, "strike": 100, "drift": 0.02, "volatility": 0.2, "days": 1460}
OPTION_PATHS = 10_000
OPTION_MEANS = (11.97, 11.49)
#: Way, mean payoff, seconds.
OPTION_WAYS = (("a Python loop on one core", 11.97, 169.0), ("one task a path, on the cluster", 11.49, 39.1))
#: Of one payoff, undiscounted; a plain mean of 10,000 has a hundredth of it as standard error.
PLAIN_ERROR = 0.18
#: Standard errors that chance alone explains.
NEAR = 2.0


def blocks(record: "Record") -> list[Block]:
    """Compare a run with the poster, or say why that would mean nothing."""
    compare = {"forest": _forest, "grid-search": _grid_search, "asian-option": _option}.get(record.job)
    return [compare(record)] if compare and record.result and not record.stopped else []


def same_option(record: "Record") -> bool:
    """Whether the option is the poster's, so that both estimate the same quantity."""
    return all(record.parameters.get(name) == value for name, value in OPTION.items())


def _this_run(record: "Record") -> str:
    machines = text.listed(sorted({worker.architecture for worker in record.workers}))
    return f"this run: {text.many(len(record.workers), 'worker')}, {machines}"


def _threads(record: "Record") -> int:
    return sum(worker.threads for worker in record.workers)


def _forest(record: "Record") -> Block:
    trees = record.parameters.get("trees")
    if trees != TREES:
        return Paragraph(
            f"The poster's forest has {TREES:,} trees; it took 15 min 01 s on one machine and 2 min 04 s on six with "
            f"30 cores. This run has {text.value(trees)} trees, so times can't be compared; they can with "
            f"--trees {TREES}.",
            TITLE,
        )
    rows = [[machines, cores, text.seconds(seconds)] for machines, cores, seconds in FOREST_TIMES]
    rows.append([_this_run(record), str(_threads(record)), text.seconds(record.seconds)])
    return Table(
        f"{TREES:,} trees: the poster's clusters and this run",
        ["cluster", "#cores", "#time"],
        rows,
        marked=[len(rows) - 1],
        note="The hardware and the versions differ. This run fits three quarters of the digits and tests the forest on "
        "the rest; the poster leaves open which of this its times are for.",
        wide=True,
    )


def _grid_search(record: "Record") -> Block:
    differing = [name for name, value in GRID.items() if record.parameters.get(name) != value]
    if differing:
        ours = {"samples": text.value(record.parameters.get("samples")) + " samples"}
        ours |= {"cv": f"{record.parameters.get('cv')} folds", "grid": "a grid of its own"}
        return Paragraph(
            "The poster's search, 48 candidates with 3 folds on 20,000 samples, took 25 min 34 s on 30 cores and "
            f"scored {GRID_SCORE}. This run has {text.listed([ours[name] for name in differing])}, so neither scores "
            "nor times can be compared.",
            TITLE,
        )
    result: GridSearchResult = record.result  # type: ignore[assignment]
    table = result.cv_results
    rows = [
        ["score of the best on all samples", f"{result.score}", f"{GRID_SCORE}"],
        ["its first five predictions", _spaced(result.predict_head), _spaced(GRID_HEAD)],
    ]
    for kernel, score in GRID_SPLITS.items():
        chosen = table.loc[[params["C"] == 0.001 and params["kernel"] == kernel for params in table["params"]]]
        found = f"{chosen['split0_test_score'].iloc[0]:.6f}"
        rows.append([f"first split, C = 0.001, {kernel}", found, f"{score:.6f}"])
    same = sum(ours == theirs for _what, ours, theirs in rows)
    rows.append([f"time ({_threads(record)} cores here, 30 there)", text.seconds(record.seconds), "25 min 34 s"])
    return Table(
        f"{'All' if same == len(rows) - 1 else same} of the poster's {len(rows) - 1} legible figures come out the same",
        ["", "#this run", "#poster"],
        rows,
        note="The poster's classifiers also fitted probabilities, which takes several more fits each. Its hardware "
        "differs.",
    )


def _option(record: "Record") -> Block:
    if not same_option(record):
        return Paragraph("The poster's option has other parameters, so nothing can be compared.", TITLE)
    found = record.result.estimate  # type: ignore[union-attr]
    same_size = found.paths == OPTION_PATHS
    rows = [
        [f"poster: {way}", f"{OPTION_PATHS:,}", f"{mean:.2f}", f"{PLAIN_ERROR:.2f}*", text.seconds(seconds)]
        for way, mean, seconds in OPTION_WAYS
    ]
    ours = [f"{found.mean:.4f}", f"{found.standard_error:.4f}", text.seconds(record.seconds)]
    rows.append([_this_run(record), f"{found.paths:,}", *ours])
    sizes = "" if same_size else "The numbers of paths differ, so times can't be compared. "
    distances = [abs(mean - found.mean) / math.hypot(PLAIN_ERROR, found.standard_error) for mean in OPTION_MEANS]
    close = sum(distance <= NEAR for distance in distances)
    return Table(
        f"{['Neither', 'One', 'Both'][close]} of the poster's two estimates {'lie' if close == 2 else 'lies'} within "
        "two standard errors of this one",
        ["", "#paths", "#mean payoff", "#standard error", "#time"],
        rows,
        marked=[2],
        note=f"{sizes}The hardware differs. * Not on the poster: that of a plain mean of 10,000 payoffs.",
        wide=True,
    )


def _spaced(labels: list[int] | None) -> str:
    return " ".join(str(label) for label in labels or [])
