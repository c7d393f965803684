"""A job on growing sets of machines: its time and its speed-up, beside the poster's."""

import math
from typing import TYPE_CHECKING

from tritoncluster.jobs import load
from tritoncluster.report import style, text
from tritoncluster.report.content import Block, Chart, Number, Panel, Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bokeh.plotting import figure

    from tritoncluster.scale import Scaling, Step

DISTURBED = "* Others used the cluster, or a machine could not be reached for a while, so this figure says less."


def numbers(scaling: "Scaling") -> list[Number]:
    """Give the headline figures."""
    first, last = scaling.steps[0].record.seconds, scaling.steps[-1].record.seconds
    found = [
        Number(text.seconds(last), f"with {text.many(len(scaling.steps[-1].machines), 'machine')}"),
        Number(f"{first / last:.1f}×", "as fast as the first step"),
    ]
    if scaling.one_machine is not None:
        found.append(Number(f"{scaling.one_machine / last:.1f}×", "as fast as the fastest machine alone"))
    return found


def section(scaling: "Scaling") -> Section:
    """Draw time and speed-up against cores, and list the steps."""
    blocks: list[Block] = [_chart(scaling), _table(scaling, scaling.steps, "Growing sets of machines")]
    if scaling.alone:
        blocks.append(_table(scaling, scaling.alone, "Each machine alone"))
    blocks.append(_worth(scaling))
    return Section("scaling", "From one machine to all", scaling.verdict, blocks=blocks)


def _chart(scaling: "Scaling") -> Chart:
    job = load(scaling.job)
    points = job.posters_steps()
    same_size = all(scaling.parameters.get(name) == value for name, value in job.posters_size.items())
    first, last = scaling.steps[0].record.seconds, scaling.steps[-1].record.seconds
    legend = [("this run", style.BLUE), ("ideal: as the rates of the machines add up", style.MUTED)]
    if points:
        legend.append(("the poster, on other hardware", style.VERMILLION))
    cores = text.many(scaling.steps[-1].threads, "thread")
    return Chart(
        f"With {cores} the work takes {last / first:.0%} of the time of the first step",
        [
            Panel(_plot(scaling, points if same_size else [], speed_up=False), "Time"),
            Panel(_plot(scaling, points, speed_up=True), "Speed-up against the first step"),
        ],
        legend=legend,
        note=_note(points, same_size=same_size),
        wide=True,
    )


def _note(points: list[tuple[int, float]], *, same_size: bool) -> str:
    if not points:
        return ""
    note = "The poster's speed-up is against its own first cluster."
    return note if same_size else f"{note} Its times are those of another size, and left out."


def _plot(scaling: "Scaling", points: list[tuple[int, float]], *, speed_up: bool) -> "figure":
    rates = [scaling.rate_of(step.machines) for step in scaling.steps]
    first = scaling.steps[0].record.seconds
    # Where the rate of one is not known, the line has a gap.
    ideal = [rate / rates[0] if rate and rates[0] else math.nan for rate in rates]
    seconds = [step.record.seconds for step in scaling.steps]
    cores = [step.threads for step in scaling.steps]
    plot = style.new_plot(
        320,
        x="threads",
        y="multiple of the first step's speed" if speed_up else "seconds",
        hover=[("threads", "@cores"), ("machines", "@machines"), ("time", "@time"), ("speed-up", "@speed{0.00}")],
    )
    source = {
        "cores": cores,
        "machines": [len(step.machines) for step in scaling.steps],
        "time": [text.seconds(each) for each in seconds],
        "speed": [first / each for each in seconds],
        "y": [first / each if speed_up else each for each in seconds],
        "ideal": ideal if speed_up else [first / each for each in ideal],
    }
    plot.line("cores", "ideal", source=source, color=style.MUTED, line_dash="dashed", line_width=2)
    plot.line("cores", "y", source=source, color=style.BLUE, line_width=2)
    dots = plot.scatter("cores", "y", source=source, color=style.BLUE, size=8)
    if points:
        theirs = [points[0][1] / each if speed_up else each for _cores, each in points]
        plot.scatter([each for each, _ in points], theirs, marker="diamond", size=12, color=style.VERMILLION)
    plot.hover.renderers = [dots]
    plot.y_range.start = 0
    return plot


def _table(scaling: "Scaling", steps: "Sequence[Step]", title: str) -> Table:
    first, alone = scaling.steps[0].record.seconds, scaling.one_machine
    rows = [
        [
            _who(step),
            f"{sum(len(machine.workers) for machine in step.machines):,}",
            f"{step.threads:,}",
            text.memory(step.memory_bytes),
            text.seconds(step.record.seconds) + (" *" if step.disturbed else ""),
            f"{first / step.record.seconds:.2f}",
            "–" if alone is None else f"{alone / step.record.seconds:.2f}",
            "–" if step.efficiency is None else f"{step.efficiency:.0%}",
        ]
        for step in steps
    ]
    columns = ["machines", "#workers", "#threads", "#memory", "#time", "#speed-up", "#to the fastest", "#efficiency"]
    if any(step.joules is not None for step in steps):
        columns.append("#energy")
        for row, step in zip(rows, steps, strict=True):
            row.append("–" if step.joules is None else text.energy(step.joules))
    note = (
        "Speed-up is against the first step, and against the fastest machine alone; efficiency is the rate of all "
        "divided by the workers' summed rates."
    )
    return Table(
        title, columns, rows, note=f"{note} {DISTURBED}" if any(s.disturbed for s in steps) else note, wide=True
    )


def _worth(scaling: "Scaling") -> Table:
    worth = scaling.worth
    watts = math.fsum(machine.watts for machine in scaling.machines)
    rows = [
        [
            machine.name + (" (left out on the way)" if machine.name in scaling.left_out else ""),
            f"{machine.threads:,}",
            _rate(scaling, machine.name),
            f"{machine.watts:g} W" if machine.watts else "–",
            f"{machine.watts / watts:.0%}" if machine.watts else "–",
            f"{worth[machine.name]:.2f}" if machine.name in worth else "–",
        ]
        for machine in sorted(scaling.machines, key=lambda machine: -worth.get(machine.name, 0.0))
    ]
    note = (
        "What a watt does is the machine's rate by its watts, as a part of the best one's. Watts are those of "
        "host_watts in the inventory: nobody measured them here."
        if worth
        else "Give host_watts in the inventory, what a host draws at work: then this says which is worth its power."
    )
    if scaling.uncertain:
        note += f" {DISTURBED}"
    columns = ["machine", "#threads", "#part of the rate", "#power", "#part of the power", "#a watt does"]
    return Table("What each machine is worth", columns, rows, note=note, wide=True)


def _rate(scaling: "Scaling", machine: str) -> str:
    if machine not in scaling.rates:
        return "–"
    return f"{scaling.rates[machine]:.0%}" + (" *" if machine in scaling.uncertain else "")


def _who(step: "Step") -> str:
    names = [machine.name for machine in step.machines]
    return (
        names[0]
        if len(names) == 1
        else f"{len(names)}: {text.listed(names)}"
        if len(names) < 4
        else (f"{len(names)}, up to {names[-1]}")
    )
