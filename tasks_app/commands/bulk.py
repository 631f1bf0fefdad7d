"""
Acting on many outcomes: which ones, whether the operator means it, and what became of each.

Ids are acted on as named. Filters that match more than one outcome ask first, and without a
terminal refuse unless `--yes` was given. Each outcome is its own act and its own commit, so an
interrupted run has done whole acts and can simply be started again.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from tasks_app.commands.filters import add_filters, positive, selection_of
from tasks_app.commands.records import counted
from tasks_app.failures import one_line
from tasks_app.models import Outcome
from tasks_app.selection import SelectionError, find_all
from tasks_app.states import State


class Refused(Exception):
    """This outcome cannot be acted on; says why."""


@dataclass(frozen=True, slots=True)
class Act:
    """
    What is done to each outcome.

    Attributes:
        verb: As it stands in a question: `retry`.
        states: States that filters without `--state` select.
        do: Does it and returns what became of the outcome; raises Refused.
    """

    verb: str
    states: tuple[State, ...]
    do: Callable[[Outcome], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ids, filters and `--yes`."""
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="an outcome's id, or its first 8 or more digits"
    )
    add_filters(parser)
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="act on this many at most, the newest"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask, however many match")


def run(command: BaseCommand, options: Mapping[str, Any], act: Act) -> None:
    """
    Do the act to every outcome that the options name.

    Raises:
        CommandError: nothing or too much is named, or an outcome named by id was refused.
    """
    ids = _named(options) if options["ids"] else _matching(command, options, act)
    refused = 0
    with tqdm(ids, desc=act.verb, unit=" outcomes", file=sys.stderr, disable=None) as bar:
        for pk in bar:
            text, was_done = _do(act, pk)
            refused += not was_done
            with bar.external_write_mode(sys.stderr):
                command.stdout.write(f"{pk} {one_line(text)}")
    if refused and options["ids"]:
        raise CommandError(f"{refused} of {len(ids)} refused.")


def _named(options: Mapping[str, Any]) -> Sequence[UUID]:
    if selection_of(options) or options["limit"]:
        raise CommandError("Give either ids or filters, not both.")
    try:
        return find_all(options["ids"])
    except SelectionError as error:
        raise CommandError(str(error)) from None


def _matching(command: BaseCommand, options: Mapping[str, Any], act: Act) -> Sequence[UUID]:
    selection = selection_of(options)
    if not selection:
        raise CommandError(f"Say which outcomes to {act.verb}: ids, or filters such as --task.")
    rows = selection.outcomes()
    if not selection.states:
        rows = rows.filter(state__in=act.states)
    ids = list(rows.values_list("pk", flat=True)[: options["limit"]])
    if not ids:
        command.stderr.write(f"No {_either(selection.states or act.states)} outcome matches.")
    if len(ids) > 1 and not options["yes"]:
        _confirm(f"{counted(len(ids))} match", act.verb)
    return ids


def _confirm(found: str, verb: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"{found}; nothing was done. Add --yes to {verb} them.")
    if input(f"{found}. {verb.capitalize()} them? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise CommandError("Nothing was done.")


def _do(act: Act, pk: UUID) -> tuple[str, bool]:
    outcome = Outcome.objects.filter(pk=pk).first()
    if outcome is None:
        return "refused: it was deleted meanwhile", False
    try:
        return act.do(outcome), True
    except Refused as error:
        return f"refused: {error}", False


def _either(states: Sequence[State]) -> str:
    return " or ".join(states)
