"""
What is connected once the models are loaded: the only module that knows every layer.

`models.Outcome` offers `cancel`, `replay` and `run_now`; the layers that do them lie above it.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from tasks_app import cancellation, checks, declare, logs, models, outcomes, worker_steps
from tasks_app.celery import app
from tasks_app.integrations import sentry

#: Integrations that need a package of their own, by a module of that package.
OPTIONAL: Mapping[str, str] = {
    "opentelemetry.propagate": "tasks_app.integrations.opentelemetry",
}


def connect() -> None:
    """Connect methods, workers, log lines and system checks."""
    models.acts.cancel = cancellation.cancel
    models.acts.replay = declare.replay
    models.acts.run_now = outcomes.run_now
    worker_steps.prepare(app)
    logs.connect()
    sentry.connect()
    for needed, integration in OPTIONAL.items():
        if _is_installed(needed):
            import_module(integration).connect()
    checks.register()


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
