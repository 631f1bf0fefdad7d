"""
Parts of the reference that are read from the package when the documentation is built.

`settings-table` lists `TASKS_APP` from `tasks_app.conf`, `checks-table` the system checks from
their docstrings, `crash-points-table` the places of `tasks_app.crash_points`, and `state-machine`
draws `tasks_app.states.TRANSITIONS`, so none of them can say anything that the code does not.
"""

import inspect
import re
from datetime import timedelta
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tasks_app.checks import ALWAYS, DEPLOY, databases
from tasks_app.conf import DEFAULT_RETENTION, SETTINGS
from tasks_app.crash_points import POINTS
from tasks_app.states import FINAL, TRANSITIONS, State

#: Centre of each state's box, in SVG units.
PLACES = {
    State.PENDING: (90, 160),
    State.RUNNING: (400, 160),
    State.SUCCEEDED: (710, 50),
    State.FAILED: (710, 160),
    State.CANCELLED: (710, 270),
    State.EXPIRED: (90, 320),
}
#: The line of each move and where its label stands. A new move in the code needs a line here.
ROUTES = {
    (State.PENDING, State.PENDING): ("M50 139 C30 85, 100 85, 80 139", (62, 92)),
    (State.PENDING, State.RUNNING): ("M150 160 L340 160", (245, 152)),
    (State.PENDING, State.FAILED): ("M130 181 C210 250, 540 245, 660 181", (330, 253)),
    (State.PENDING, State.CANCELLED): ("M110 181 C170 330, 480 330, 650 280", (330, 328)),
    (State.PENDING, State.EXPIRED): ("M90 181 L90 299", (60, 250)),
    (State.RUNNING, State.RUNNING): ("M385 139 C360 85, 440 85, 415 139", (400, 92)),
    (State.RUNNING, State.PENDING): ("M370 139 C330 60, 150 60, 110 139", (240, 70)),
    (State.RUNNING, State.SUCCEEDED): ("M460 150 L650 58", (540, 95)),
    (State.RUNNING, State.FAILED): ("M460 160 L650 160", (555, 152)),
    (State.RUNNING, State.CANCELLED): ("M460 172 L650 264", (480, 272)),
}
WIDTH, HEIGHT = 790, 350
BOX = (118, 40)
STYLE = """
.sm { width: 100%; max-width: 790px; font: 13px sans-serif; fill: currentColor }
.sm rect { fill: none; stroke: currentColor; stroke-width: 1.5 }
.sm .final rect { stroke-width: 3 }
.sm .state { text-anchor: middle; font-weight: 600 }
.sm path { fill: none; stroke: currentColor; opacity: .6 }
.sm .act { text-anchor: middle; font-size: 12px }
"""


def acts_by_move() -> dict[tuple[State, State], list[str]]:
    """Return the acts that lead from one state to another, in the table's order."""
    moves: dict[tuple[State, State], list[str]] = {}
    for transition in TRANSITIONS:
        for target in transition.targets:
            acts = moves.setdefault((transition.source, target), [])
            if transition.act not in acts:
                acts.append(transition.act)
    return moves


def arrow(source: State, target: State, acts: list[str]) -> str:
    """Return one arrow with the acts that follow it."""
    line, (x, y) = ROUTES[source, target]
    label = escape(" · ".join(act.replace("_", " ") for act in acts))
    return (
        f'<path d="{line}" marker-end="url(#sm-tip)"/>'
        f'<text class="act" x="{x}" y="{y}">{label}</text>'
    )


def box(state: State) -> str:
    """Return one state's box; a final one has a thick border."""
    x, y = PLACES[state]
    kind = "final" if state in FINAL else "open"
    return (
        f'<g class="{kind}"><rect x="{x - BOX[0] / 2}" y="{y - BOX[1] / 2}" rx="8" '
        f'width="{BOX[0]}" height="{BOX[1]}"/>'
        f'<text class="state" x="{x}" y="{y + 5}">{escape(state)}</text></g>'
    )


def drawing() -> str:
    """Return the state machine as SVG."""
    parts = [arrow(source, target, acts) for (source, target), acts in acts_by_move().items()]
    parts += [box(state) for state in State]
    return (
        f'<svg class="sm" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="The states of an outcome and the moves between them"><style>{STYLE}</style>'
        '<defs><marker id="sm-tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
        'style="fill: currentColor"/></marker></defs>' + "".join(parts) + "</svg>"
    )


def table(head: list[str], rows: list[list[Any]]) -> nodes.table:
    """Return a table of the given cells."""
    group = nodes.tgroup(cols=len(head))
    group.extend(nodes.colspec(colwidth=1) for _ in head)
    group += nodes.thead("", row_of([nodes.Text(title) for title in head]))
    group += nodes.tbody("", *[row_of(cells) for cells in rows])
    return nodes.table("", group)


def row_of(cells: list[nodes.Node | list[nodes.Node]]) -> nodes.row:
    """Return a table row; a cell is one node or several in a line."""
    lines = [cell if isinstance(cell, list) else [cell] for cell in cells]
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", *line)) for line in lines])


def code(text: object) -> nodes.literal:
    """Return text in the fixed font."""
    return nodes.literal(text=str(text))


def prose(text: str) -> list[nodes.Node]:
    """Return text in which backquotes mark the fixed font."""
    parts = text.split("`")
    return [code(part) if number % 2 else nodes.Text(part) for number, part in enumerate(parts)]


def explained(check: Any) -> tuple[str, str, str]:
    """Return id, meaning and remedy of a system check, from its docstring."""
    head, *rest = inspect.cleandoc(check.__doc__).split("\n\n")
    number, meaning = re.fullmatch(r"([EW]\d{3})(?: \(deploy\))?: (.*)", head, re.DOTALL).groups()
    (remedy,) = (part for part in rest if part.startswith("Remedy: "))
    return number, in_a_line(meaning), in_a_line(remedy.removeprefix("Remedy: "))


def in_a_line(text: str) -> str:
    """Return a sentence on one line, with a capital at its start."""
    text = " ".join(text.split())
    return text[0].upper() + text[1:]


def in_words(name: str, value: Any) -> str:
    """Return a default as a user would write it."""
    if name == "RETENTION":
        return ", ".join(
            f"{state} {in_words('', kept)}" for state, kept in DEFAULT_RETENTION.items()
        )
    if isinstance(value, timedelta):
        hours = value / timedelta(hours=1)
        return f"{value.days} d" if hours > 24 else f"{hours:g} h"  # noqa: PLR2004
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(value)
    return repr(value)


class SettingsTable(SphinxDirective):
    """Every key of `TASKS_APP` with its default and its meaning."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [
            [code(name), code(in_words(name, setting.default)), nodes.Text(setting.meaning)]
            for name, setting in SETTINGS.items()
        ]
        return [table(["Key", "Default", "Meaning"], rows)]


class ChecksTable(SphinxDirective):
    """Every system check: its id, what it says, and what to do."""

    def run(self) -> list[nodes.Node]:
        """Return the table, by number."""
        told = [
            *((check, "") for check in ALWAYS),
            *((check, " Told by `check --deploy`.") for check in DEPLOY),
            *((check, " Told by `check --database`.") for check in databases.CHECKS),
        ]
        rows = sorted(((*explained(check), by) for check, by in told), key=lambda row: row[0][1:])
        cells = [
            [code(f"tasks_app.{number}"), prose(meaning + by), prose(remedy)]
            for number, meaning, remedy, by in rows
        ]
        return [table(["Id", "Says", "Remedy"], cells)]


class CrashPointsTable(SphinxDirective):
    """Every crash point and the moment that it stands for."""

    def run(self) -> list[nodes.Node]:
        """Return the table, in the order of a call's path."""
        rows = [[code(point), prose(in_a_line(moment))] for point, moment in POINTS.items()]
        return [table(["Point", "When"], rows)]


class StateMachine(SphinxDirective):
    """The drawing, and the same as a table for those who cannot see it."""

    def run(self) -> list[nodes.Node]:
        """Return the drawing in HTML and the table everywhere."""
        rows = [
            [
                code(transition.act),
                code(transition.source),
                nodes.Text(", ".join(transition.targets)),
            ]
            for transition in TRANSITIONS
        ]
        picture = nodes.raw("", drawing(), format="html")
        return [picture, table(["Act", "From", "To"], rows)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("checks-table", ChecksTable)
    app.add_directive("crash-points-table", CrashPointsTable)
    app.add_directive("state-machine", StateMachine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
