"""Contestant: this project telling nothing but warnings; no line is kept and nothing counted."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.unobserved_settings"

import django

django.setup()

from benchmarks import stamps
from tasks_app import task
from tasks_app.celery import app

__all__ = ["app", "fill", "noop"]

noop = task(stamps.leave, name="noop")


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    noop.enqueue_many([()] * count)
