"""Contestant: Celery with django-celery-results, whose rows show what runs and with what."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"

import django

django.setup()

from celery import Celery

from benchmarks import stamps

app = Celery("with_results", broker=os.environ["BENCHMARK_BROKER"], backend="django-db")
app.conf.update(task_track_started=True, result_extended=True)
noop = app.task(name="noop")(stamps.leave)


def fill(count: int) -> None:
    """Publish no-op calls."""
    for _ in range(count):
        noop.apply_async()
