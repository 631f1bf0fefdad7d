"""
`manage.py tasks …`: the operator's command.

Each sub-command lives in a module of `tasks_app.commands`; here they are only put together, and
what the database has to complain about becomes one line instead of a traceback.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.utils.connection import ConnectionDoesNotExist

from tasks_app.commands import (
    cancel,
    discard,
    doctor,
    listing,
    loglevel,
    move,
    pause,
    prune,
    relay,
    resume,
    retry,
    show,
)
from tasks_app.commands.celery_command import CeleryCommand, beat, flower, worker
from tasks_app.exceptions import TasksAppError
from tasks_app.trouble import explain


class SubCommand(Protocol):
    """What each module of `tasks_app.commands` that is a sub-command offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what it accepts."""

    def run(self, command: BaseCommand, options: Mapping[str, Any]) -> None:
        """Do it."""


SUB_COMMANDS: Mapping[str, SubCommand] = {
    "worker": worker,
    "beat": beat,
    "flower": flower,
    "relay": relay,
    "doctor": doctor,
    "list": listing,
    "show": show,
    "retry": retry,
    "cancel": cancel,
    "discard": discard,
    "move": move,
    "prune": prune,
    "pause": pause,
    "resume": resume,
    "loglevel": loglevel,
}

#: Exit code after Ctrl+C, as shells have it.
INTERRUPTED = 130


class Command(BaseCommand):
    """Work with tasks: run them, look at them, act on them."""

    help = "Run tasks, look at their outcomes, and act on them."
    # A broken setting elsewhere must not keep an operator from looking. Celery checks for itself.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add every sub-command."""
        chosen = parser.add_subparsers(
            dest="sub_command", metavar="SUB-COMMAND", required=True, parser_class=CommandParser
        )
        for name, sub_command in SUB_COMMANDS.items():
            sub_parser = chosen.add_parser(
                name, help=sub_command.HELP, description=sub_command.HELP, **_style(sub_command)
            )
            if not isinstance(sub_command, CeleryCommand):
                _accept_general_options(sub_parser)
            sub_command.add_arguments(sub_parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command that was asked for."""
        try:
            SUB_COMMANDS[options["sub_command"]].run(self, options)
        except Error as error:
            raise CommandError(explain(error)) from error
        except (TasksAppError, ConnectionDoesNotExist) as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            # Whoever read has had enough, such as `head`; the interpreter must not complain later.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None


def _style(sub_command: SubCommand) -> dict[str, Any]:
    # No character begins an option of Celery's commands: all their arguments are positional here.
    if isinstance(sub_command, CeleryCommand):
        return {"add_help": False, "prefix_chars": "\0"}
    return {}


def _accept_general_options(parser: argparse.ArgumentParser) -> None:
    """Let Django's own options stand behind the sub-command too."""
    for name in ("--settings", "--pythonpath"):
        parser.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for name in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(
            name, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    parser.add_argument(
        "-v", "--verbosity", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
