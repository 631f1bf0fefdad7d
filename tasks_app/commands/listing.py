"""`tasks list`: outcomes that pass the filters, the newest first, one line each."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.celery import app
from tasks_app.clock import DatabaseNow
from tasks_app.commands.filters import add_filters, positive, selection_of
from tasks_app.commands.records import UNSEEN, as_json, record_of, short_span
from tasks_app.failures import one_line
from tasks_app.options import declared
from tasks_app.suggestions import did_you_mean

HELP = "List outcomes, the newest first."

#: Rows shown unless `--limit` says otherwise.
LIMIT = 50

#: Characters of an error's line.
SHOWN = 60

HEADINGS = ("ID", "STATE", "TASK", "QUEUE", "TRIES", "AGE", "NOTE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters, `--limit` and `--json`."""
    add_filters(parser)
    parser.add_argument(
        "--limit",
        type=positive,
        default=LIMIT,
        metavar="N",
        help=f"rows at most; {LIMIT} by default",
    )
    parser.add_argument("--json", action="store_true", help="a JSON array of objects")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Write the outcomes that the options select."""
    limit = options["limit"]
    rows = selection_of(options).outcomes().defer(*UNSEEN).annotate(now=DatabaseNow())
    found = list(rows[: limit + 1])
    if options["json"]:
        command.stdout.write(as_json([record_of(row) for row in found[:limit]]))
    elif found:
        _write_table(command, [HEADINGS, *map(_cells, found[:limit])])
    else:
        command.stderr.write(f"No outcome matches.{_hint(options['tasks'])}")
    if len(found) > limit:
        command.stderr.write(f"There are more than {limit}; --limit shows them.")


def _write_table(command: BaseCommand, lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        command.stdout.write("  ".join(cells).rstrip())


def _cells(row: Any) -> Sequence[str]:
    return (
        str(row.pk),
        row.state,
        one_line(row.task_name),
        one_line(row.queue),
        f"{row.attempt}/{row.most_attempts}",
        short_span(row.now - row.created_at),
        _note(row),
    )


def _note(row: Any) -> str:
    waits = f"in {short_span(row.run_at - row.now)}" if _is_later(row) else ""
    error = row.error if len(row.error) <= SHOWN else f"{row.error[: SHOWN - 1]}…"
    why = waits or row.reason or row.cancel_reason
    return one_line(": ".join(part for part in (why, error) if part))


def _is_later(row: Any) -> bool:
    return bool(row.state == "pending" and row.run_at > row.now)


def _hint(tasks: Sequence[str]) -> str:
    if tasks:
        app.loader.import_default_modules()
    for name in tasks:
        if declared and name not in declared:
            return f" No task {name!r} is known here.{did_you_mean(name, declared)}"
    return ""
