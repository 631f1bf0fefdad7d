"""Probes of the project itself: its settings as the system checks see them, and its tasks."""

from django.core import checks

from tasks_app.celery import app
from tasks_app.doctor.findings import Verdict, fail, ok, warn
from tasks_app.options import declared

PREFIX = "tasks_app."


def system_checks() -> Verdict:
    """Ask the system checks of this app."""
    found = [
        message
        for message in checks.run_checks()
        if str(message.id).startswith(PREFIX) and not message.is_silenced()
    ]
    serious = [message for message in found if message.is_serious()]
    if not found:
        return ok("nothing to complain about")
    names = ", ".join(sorted({str(message.id) for message in serious or found}))
    remedy = "Run `manage.py check`: each message says what to change."
    return fail(names, remedy) if serious else warn(names, remedy)


def task_modules() -> Verdict:
    """Import the task modules, as a worker does when it starts."""
    app.loader.import_default_modules()
    if not declared:
        return warn(
            "no task with outcomes is declared",
            "Declare one with tasks_app.task in a module `tasks` or `helpers` of an installed app.",
        )
    return ok(f"declared tasks: {len(declared)}")
