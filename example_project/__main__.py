"""Stands in for manage.py: ``python -m example_project migrate``."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    """Run one Django management command with the example's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    execute_from_command_line(["python -m example_project", *sys.argv[1:]])


if __name__ == "__main__":
    main()
