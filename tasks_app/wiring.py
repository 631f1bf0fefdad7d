"""
What is connected once the models are loaded: the only module that knows every layer.

`models.Outcome` offers `cancel`, `replay` and `run_now`; the layers that do them lie above it.
"""

from tasks_app import cancellation, checks, declare, logs, models, outcomes, worker_steps
from tasks_app.celery import app
from tasks_app.integrations.sentry import loading


def connect() -> None:
    """Connect methods, workers, log lines and system checks."""
    models.acts.cancel = cancellation.cancel
    models.acts.replay = declare.replay
    models.acts.run_now = outcomes.run_now
    worker_steps.prepare(app)
    logs.connect()
    loading.connect()
    checks.register()
