"""
System checks: each misconfiguration that can be seen without a connection, with its remedy.

Ids are `tasks_app.E0nn` (it will not work) and `tasks_app.W0nn` (it works until it hurts). A
message says what was found and why it matters; its hint is the line to add. Checks look at
settings, at Celery's configuration and at tasks that are loaded already: none imports a task
module, none opens a connection. The exception is `databases.py`, run by `check --database`.

A project that has added one line to `INSTALLED_APPS` hears nothing while it is developed with
`DEBUG`. What only matters in production is told by `check --deploy`.
"""

from django.core import checks

from tasks_app.checks import (
    brokers,
    celery_apps,
    celery_settings,
    databases,
    declarations,
    own_settings,
    plain_tasks,
    surroundings,
)

TAG = "tasks_app"

ALWAYS = (
    *own_settings.CHECKS,
    *celery_apps.CHECKS,
    *celery_settings.CHECKS,
    *brokers.CHECKS,
    *declarations.CHECKS,
    *plain_tasks.CHECKS,
    *surroundings.CHECKS,
)
DEPLOY = (*plain_tasks.DEPLOY_CHECKS, *surroundings.DEPLOY_CHECKS)


def register() -> None:
    """Make the checks known to Django; called once, when the app is ready."""
    for check in ALWAYS:
        checks.register(check, TAG)
    for check in DEPLOY:
        checks.register(check, TAG, deploy=True)
    for check in databases.CHECKS:
        checks.register(check, TAG, checks.Tags.database)
