"""Charts of a run as SVG: a bar for each contestant and measure, its length the median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.draining import CHILD_MEMORY, NOOP, SERVER_CPU, WHOLE_MEMORY, WORKER_CPU, WRITING
from benchmarks.enqueueing import BULK, IN_TRANSACTION, SINGLE
from benchmarks.figures import Figure, Sheet
from benchmarks.responding import FROM_COMMIT, PERCENTS
from benchmarks.tables import number

#: Legible on a white page and on a black one.
INK = "#808080"
COLOURS = ("#2f7ed8", "#e0912f", "#4caf50")

#: Share of the room between two contestants that their bars fill.
FILLED = 0.8

#: Inches: the width of a chart, and the height of a bar and of what is around the bars.
WIDTH, BAR, AROUND = 8, 0.2, 1.4


@dataclass(frozen=True)
class Chart:
    """A chart: its file's name, its title and its measures, which have one unit."""

    name: str
    title: str
    measures: Sequence[str]


CHARTS = (
    Chart("drain", "Drain by two processes", (NOOP, WRITING)),
    Chart("enqueue", "Enqueue, one by one", (SINGLE, IN_TRANSACTION)),
    Chart("bulk", "Enqueue many", (BULK.format(10_000), BULK.format(100_000))),
    Chart(
        "latency",
        "From commit to visible result, idle worker",
        [FROM_COMMIT.format(f"p{percent}") for percent in PERCENTS],
    ),
    Chart("relay", "Relay", ("relay on Redis", "relay on RabbitMQ")),
    Chart("cpu", "CPU per no-op", (WORKER_CPU, SERVER_CPU)),
    Chart("memory", "Memory, proportional share", (CHILD_MEMORY, WHOLE_MEMORY)),
)


def is_possible() -> bool:
    """Return whether matplotlib is installed, as the extra `bench` has it."""
    return find_spec("matplotlib") is not None


def draw(sheet: Sheet, folder: Path) -> list[Chart]:
    """Draw every chart that a sheet has figures for into a folder; return those."""
    drawn = [chart for chart in CHARTS if any(sheet.of(measure) for measure in chart.measures)]
    for chart in drawn:
        _draw(chart, sheet, folder / f"{chart.name}.svg")
    return drawn


def _draw(chart: Chart, sheet: Sheet, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - an extra that tables do without

    mpl.use("svg")
    # The same figures make the same file.
    mpl.rcParams.update({"svg.hashsalt": chart.name, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figures = {measure: sheet.of(measure) for measure in chart.measures if sheet.of(measure)}
    names = list(dict.fromkeys(each.contestant for some in figures.values() for each in some))
    height = AROUND + BAR * (len(figures) + 0.5) * len(names)
    picture, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    for place, (measure, some) in enumerate(figures.items()):
        _draw_bars(axes, names, some, place, len(figures), measure)
    _dress(axes, chart, names, next(iter(figures.values()))[0])
    picture.legend(
        loc="outside lower center", ncols=len(figures), frameon=False, labelcolor=INK, fontsize=8
    )
    picture.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(picture)


def _draw_bars(  # noqa: PLR0913, PLR0917 - one call, beside the axes they belong to
    axes: Any, names: Sequence[str], some: Sequence[Figure], place: int, places: int, label: str
) -> None:
    width = FILLED / places
    rows = [names.index(figure.contestant) + (place + 0.5) * width - FILLED / 2 for figure in some]
    medians = [figure.median for figure in some]
    spread = [
        [figure.median - min(figure.values) for figure in some],
        [max(figure.values) - figure.median for figure in some],
    ]
    axes.barh(rows, medians, width * 0.9, color=COLOURS[place], label=label)
    axes.errorbar(medians, rows, xerr=spread, fmt="none", ecolor=INK, capsize=2, linewidth=1)
    for row, figure in zip(rows, some, strict=True):
        told = f" {number(figure.median)}"
        axes.text(max(figure.values), row, told, va="center", fontsize=8, color=INK)


def _dress(axes: Any, chart: Chart, names: Sequence[str], example: Figure) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"{example.unit}, {example.better} is better; median, lowest and highest")
    axes.set_title(chart.title)
    axes.tick_params(colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)
    for text in (axes.title, axes.xaxis.label):
        text.set_color(INK)
