"""Contestant: this project; the effect and the outcome commit together."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.short_lease"

import django

django.setup()

import time

from django.db import connection

from benchmarks.losses import MOMENT
from tasks_app import task
from tasks_app.celery import app

__all__ = ["app", "effect", "enqueue"]


@task(name="effect")
def effect(key: str) -> None:
    """Write one row somewhere in the middle."""
    time.sleep(MOMENT)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (key) VALUES (%s)", [key])
    time.sleep(MOMENT)


def enqueue(key: str) -> None:
    """Enqueue one call."""
    effect.enqueue(key)
