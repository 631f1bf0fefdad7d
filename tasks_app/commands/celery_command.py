"""
`tasks worker`, `beat` and `flower`: this process becomes Celery's command, with the app at hand.

A new program rather than a call: Celery then patches for its pool, detaches and reads its
arguments as it always does. Settings travel by environment, the import path too.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

APP = "tasks_app"


class CeleryCommand:
    """One of Celery's commands; has the form of a sub-command module."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.HELP = text

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take every argument as it stands, options too: they are Celery's."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def run(self, command: BaseCommand, options: Mapping[str, Any]) -> NoReturn:
        """Become Celery."""
        if self.name == "flower" and find_spec("flower") is None:
            raise CommandError("Flower is not installed: pip install 'tasks_app[flower]'.")
        words = [sys.executable, "-m", "celery", "-A", APP, self.name, *options["arguments"]]
        sys.stdout.flush()
        # The whole path: `manage.py` may lie in another folder than the current one.
        path = os.pathsep.join(dict.fromkeys(filter(None, sys.path)))
        os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": path})  # noqa: S606 - Celery


worker = CeleryCommand("worker", "Start a Celery worker; all arguments are Celery's.")
beat = CeleryCommand("beat", "Start Celery's scheduler; all arguments are Celery's.")
flower = CeleryCommand("flower", "Start Flower; all arguments are Flower's.")
