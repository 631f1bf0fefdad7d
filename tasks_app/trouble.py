"""What to tell an operator when the database does not play along: one line and a remedy."""

from django.db import Error, connections
from django.db.migrations.loader import MigrationLoader

from tasks_app.conf import conf
from tasks_app.models import Outcome


def explain(error: Error) -> str:
    """Return what a database's error means to an operator."""
    try:
        return missing_tables() or f"The database {conf.DATABASE!r} refused: {_line(error)}"
    except Error:
        return f"The database {conf.DATABASE!r} does not answer: {_line(error)}"


def missing_tables() -> str:
    """
    Return what to do about tables that are missing or too old; empty when there are none.

    Raises:
        django.db.Error: the database does not answer.
    """
    missing = unapplied_migrations()
    if not missing:
        return ""
    names = ", ".join(missing)
    option = "" if conf.DATABASE == "default" else f" --database {conf.DATABASE}"
    return (
        f"The tables of tasks_app are not up to date in the database {conf.DATABASE!r} (missing: "
        f"{names}): run `manage.py migrate{option}`."
    )


def unapplied_migrations() -> list[str]:
    """Return names of this app's migrations that the database does not have."""
    loader = MigrationLoader(connections[conf.DATABASE])
    ours = (key for key in loader.graph.nodes if key[0] == Outcome._meta.app_label)
    return sorted(name for app, name in ours if (app, name) not in loader.applied_migrations)


def _line(error: Error) -> str:
    connections[conf.DATABASE].close()
    return " ".join(str(error).split()) or type(error).__name__
