"""`tasks show`: one outcome with its attempts; arguments and result only on request, masked."""

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks_app.celery import app
from tasks_app.commands.records import arguments_of, as_json, attempt_record, record_of
from tasks_app.printable import plain
from tasks_app.selection import SelectionError, find

HELP = "Show one outcome with its attempts."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the id, `--arguments` and `--json`."""
    parser.add_argument("id", metavar="ID", help="its id, or the first 8 or more digits of it")
    parser.add_argument(
        "--arguments",
        action="store_true",
        help="show the values of arguments and result; redacted names stay masked",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Write one outcome."""
    try:
        outcome = find(options["id"])
    except SelectionError as error:
        raise CommandError(str(error)) from None
    # Without its declaration a task's secrets are not known, and everything stays masked.
    app.loader.import_default_modules()
    record = {**record_of(outcome), **arguments_of(outcome, shown=options["arguments"])}
    attempts = [attempt_record(attempt) for attempt in outcome.attempts.all()]
    if options["json"]:
        command.stdout.write(as_json({**record, "attempts": attempts}))
        return
    _write_record(command, record, "")
    for attempt in attempts:
        command.stdout.write(f"\nattempt {attempt.pop('number')}")
        _write_record(command, attempt, "  ")


def _write_record(command: BaseCommand, record: Mapping[str, Any], indent: str) -> None:
    shown = {name: value for name, value in record.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = plain(str(value)).rstrip("\n").replace("\n", f"\n{indent}{'':{width}}  ")
        command.stdout.write(f"{indent}{name:{width}}  {text}")
