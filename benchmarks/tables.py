"""Tables of a run in Markdown: targets with their ratios, and every figure with its spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Sheet
from benchmarks.lineup import LINEUP, Contestant
from benchmarks.targets import Verdict

BEGIN, END = "<!-- figures: written by `python3 run.py bench` -->", "<!-- end of figures -->"

#: How those are called whose figures go by the module that they are.
NAMES = {
    "with_outcomes": "tasks_app",
    "with_results": "django-celery-results",
    "with_files": "tasks_app, SQLite and files",
    "with_plain_files": "the same, SQLite as Django sets it up",
    "with_celery_files": "Celery's filesystem broker, results in SQLite",
}


def of_targets(verdicts: Iterable[Verdict]) -> str:
    """Return a row for each target: what it wants, what was measured, whether it is reached."""
    head = ("Measure", "Ratio", "Wanted", "Median (lowest to highest)", "Reached", "Load")
    return _table(head, [_target_row(verdict) for verdict in verdicts])


def of_figures(sheet: Sheet) -> str:
    """Return a table for each measure, with a row for each contestant."""
    measures = dict.fromkeys(figure.measure for figure in sheet)
    head = ("Measure", "Contestant", "Median", "Lowest to highest", "Unit", "Load")
    rows = [_figure_row(figure) for measure in measures for figure in sheet.of(measure)]
    return _table(head, rows)


def put_between_marks(page: Path, text: str) -> None:
    """
    Replace what a page has between its marks.

    Raises:
        ValueError: The page has no such marks.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def number(value: float) -> str:
    """Return a value with as many digits as say something."""
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def load(loads: Sequence[float]) -> str:
    """Return the lowest and the highest load average of the rounds."""
    return f"{min(loads):.1f} to {max(loads):.1f}"


def text(
    wanted: str, sheet: Sheet, runs: Mapping[str, Mapping[str, Any]], charts: Sequence[str]
) -> str:
    """
    Return all that a run says: targets, what ran when, charts, and every figure.

    Charts are given by their addresses, as the page that gets this text sees them.
    """
    pictures = [f"![{Path(chart).stem}]({chart})" for chart in charts]
    return "\n\n".join(
        [
            "### Against the targets",
            wanted,
            *pictures,
            "### Who ran, and when",
            of_contestants(LINEUP),
            of_runs(runs),
            "### Every figure",
            of_figures(sheet),
        ]
    )


def of_contestants(contestants: Iterable[Contestant]) -> str:
    """Return a row for each contestant with its settings."""
    return _table(("Contestant", "Runs"), [(each.name, each.says) for each in contestants])


def of_runs(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row for each part: when it ended, and on what it ran."""
    head = ("Part", "Ended (UTC)", "Rounds", "Load before", "Cores", "Python", "PostgreSQL")
    keys = ("ended", "rounds", "load", "cores", "python", "postgresql")
    return _table(head, [[name, *(str(run[key]) for key in keys)] for name, run in runs.items()])


def _target_row(verdict: Verdict) -> Sequence[str]:
    target, ratio = verdict.target, verdict.ratio
    names = f"{_name(target.own)} / {_name(target.other)}"
    if ratio is None:
        return target.measure, names, str(target), "not measured", "–", "–"
    spread = f"{number(ratio.lowest)} to {number(ratio.highest)}"
    told = f"{number(ratio.median)} ({spread})"
    reached = "yes" if verdict.is_reached else "**no**"
    return target.measure, names, str(target), told, reached, load(verdict.loads)


def _figure_row(figure: Figure) -> Sequence[str]:
    spread = f"{number(min(figure.values))} to {number(max(figure.values))}"
    median = number(figure.median)
    return figure.measure, _name(figure.contestant), median, spread, figure.unit, load(figure.loads)


def _name(contestant: str) -> str:
    return NAMES.get(contestant, contestant)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
