"""`tasks prune`: deletes final outcomes whose retention is over, batch by batch."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from tasks_app import prune
from tasks_app.commands.records import counted

HELP = "Delete final outcomes that RETENTION no longer keeps, in small batches."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--dry-run`."""
    parser.add_argument("--dry-run", action="store_true", help="only count them")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Delete or count."""
    count = prune.count()
    if options["dry_run"]:
        command.stdout.write(f"{counted(count)} would be deleted.")
        return
    deleted = 0
    with tqdm(total=count, desc="prune", unit=" outcomes", file=sys.stderr, disable=None) as bar:
        try:
            for batch in prune.prune():
                deleted += batch
                bar.update(batch)
        finally:
            command.stdout.write(f"{counted(deleted)} deleted.")
