"""Contestant: Celery with django-celery-results and no other setting: a row once a task ended."""

from benchmarks.with_results import app, fill, noop

app.conf.update(task_track_started=False, result_extended=False)

__all__ = ["app", "fill", "noop"]
