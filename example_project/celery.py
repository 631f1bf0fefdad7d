"""Lets ``celery -A example_project worker|beat|flower`` find the app that tasks_app builds."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

from tasks_app.celery import app

__all__ = ["app"]
