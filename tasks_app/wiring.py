"""
What is connected once the models are loaded: the only module that knows every layer.

`models.Outcome` offers `cancel`, `discard`, `move`, `replay` and `run_now`; the layers that do them
lie above it.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec

from django.apps import apps
from django.conf import settings

from tasks_app import (
    bulk_actions,
    cancellation,
    checks,
    command_ids,
    context,
    declare,
    models,
    outcomes,
    worker_steps,
)
from tasks_app.celery import app
from tasks_app.integrations import ID_PACKAGES
from tasks_app.integrations.sentry import loading
from tasks_app.logs import kept, lifecycle, programs

#: Connected where django-celery-beat is installed, whose tables it writes.
SYNC = "tasks_app.periodic.sync"

#: Where the task stands that publishes plain tasks on a schedule.
FORWARDING = "tasks_app.periodic.forwarding"

#: Integrations that need a package of their own, by a module of that package.
OPTIONAL: Mapping[str, str] = {
    "opentelemetry.propagate": "tasks_app.integrations.opentelemetry",
}


def connect() -> None:
    """Connect methods, workers, log lines, request ids and system checks."""
    models.acts.cancel = cancellation.cancel
    models.acts.replay = declare.replay
    models.acts.run_now = outcomes.run_now
    models.acts.discard = cancellation.discard
    models.acts.move = outcomes.move
    bulk_actions.connect()
    worker_steps.prepare(app)
    lifecycle.connect()
    kept.connect()
    programs.connect()
    loading.connect()
    command_ids.connect()
    context.foreign[:] = [
        import_module(f"tasks_app.integrations.{package}").FOREIGN_ID for package in id_packages()
    ]
    if apps.is_installed("django_celery_beat"):
        import_module(SYNC).connect()
        import_module(FORWARDING)
    for needed, integration in OPTIONAL.items():
        if _is_installed(needed):
            import_module(integration).connect()
    checks.register()


def id_packages() -> Iterator[str]:
    """Return the packages with ids of requests that this project uses, as far as that shows."""
    yield from filter(_is_in_settings, ID_PACKAGES)
    if _is_installed("asgi_correlation_id"):
        yield "asgi_correlation_id"


def _is_in_settings(package: str) -> bool:
    """Tell whether a package is an installed app, or has a middleware in the stack."""
    return apps.is_installed(package) or any(
        path.startswith(f"{package}.") for path in settings.MIDDLEWARE
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
