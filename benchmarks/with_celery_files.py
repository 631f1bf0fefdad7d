"""Contestant: Celery on its filesystem broker, with results in SQLite; defaults otherwise."""

import os
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.sqlite_settings"

import django

django.setup()

from celery import Celery, states
from django_celery_results.models import TaskResult

from benchmarks import stamps

__all__ = ["app", "call", "fill", "has_result", "noop"]

FOLDER = Path(os.environ["BENCHMARK_BROKER"])
FOLDER.mkdir(exist_ok=True)

app = Celery("with_celery_files", broker="filesystem://", backend="django-db")
app.conf.broker_transport_options = {
    "data_folder_in": str(FOLDER),
    "data_folder_out": str(FOLDER),
    "control_folder": str(FOLDER / "control"),
}
noop = app.task(name="noop")(stamps.leave)


def fill(count: int) -> None:
    """Publish no-op calls."""
    for _ in range(count):
        noop.apply_async()


def call() -> str:
    """Publish one no-op call and return its id."""
    return str(noop.apply_async().id)


def has_result(call_id: str) -> bool:
    """Tell whether a call's result says that it succeeded."""
    return TaskResult.objects.filter(task_id=call_id, status=states.SUCCESS).exists()
