"""Contestant: this project, telling all: JSON lines, kept lines, a request id, metrics."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.observed_settings"

import django

django.setup()

from benchmarks import stamps
from tasks_app import context, task
from tasks_app.celery import app

__all__ = ["app", "fill", "noop"]

noop = task(stamps.leave, name="noop")


def fill(count: int) -> None:
    """Enqueue no-op calls of one request."""
    with context.working_for("7f3a91c2d4e57f3a91c2d4e57f3a91c2", None):
        noop.enqueue_many([()] * count)
