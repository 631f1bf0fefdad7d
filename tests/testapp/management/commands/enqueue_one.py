"""A command that enqueues like any other code."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from tests.testapp.tasks import add


class Command(BaseCommand):
    """Enqueue one call in a transaction, and fail afterwards on request."""

    help = "Enqueue one call."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--fail`."""
        parser.add_argument("--fail", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Enqueue."""
        with transaction.atomic():
            add.enqueue(1, 2)
            if options["fail"]:
                raise CommandError("after enqueueing")
