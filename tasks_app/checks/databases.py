"""What only a connection can tell; run by `manage.py check --database default`."""

from collections.abc import Sequence
from typing import Any

from django.db import connections

from tasks_app.checks.messages import Messages, problem
from tasks_app.checks.project import database_alias


def check_skip_locked(databases: Sequence[str] | None = None, **kwargs: Any) -> Messages:
    """
    W034: relays and rescuers wait for each other's rows. SQLite has one writer anyway.

    Remedy: `TASKS_APP = {"RELAY_IN_WORKER": False}` and one `manage.py tasks relay`; or MariaDB
    10.6, MySQL 8, PostgreSQL 13 or newer.
    """
    alias = database_alias()
    if alias not in (databases or ()):
        return []
    features = connections[alias].features
    if not features.has_select_for_update or features.has_select_for_update_skip_locked:
        return []
    return [
        problem(
            "W034",
            f"The database {alias!r} has no SKIP LOCKED: relays in several workers wait for each "
            "other instead of sharing the work.",
            'TASKS_APP = {"RELAY_IN_WORKER": False} and one `manage.py tasks relay`; or MariaDB '
            "10.6, MySQL 8, PostgreSQL 13 or newer",
        )
    ]


CHECKS = (check_skip_locked,)
