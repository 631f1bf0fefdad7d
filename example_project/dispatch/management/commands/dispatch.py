"""``python -m example_project dispatch``: start a job from the command line."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from example_project.dispatch.helpers.airports_csv import BadFile
from example_project.dispatch.jobs import start_job


class Command(BaseCommand):
    """Start a job over a CSV file, or over the bundled airports."""

    help = "Start a job over a CSV file, or over the bundled airports."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options."""
        parser.add_argument("--input", type=Path, metavar="FILE", help="CSV file of airports")
        parser.add_argument("--seed", type=int, default=0, help="decides which flights are planned")

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the job and print its number."""
        path: Path | None = options["input"]
        try:
            if path is None:
                job = start_job(seed=options["seed"])
            else:
                job = start_job(path.read_bytes(), path.name, options["seed"])
        except (BadFile, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Started {job}.")
