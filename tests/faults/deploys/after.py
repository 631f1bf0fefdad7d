"""The same tasks after the deploy: one lost a parameter, one its name, one is gone."""

from __future__ import annotations

from tasks_app import task
from tests.testapp.models import Effect


@task(name="deploys.greet")
def greet(key: str) -> None:
    """Take one argument."""
    Effect.objects.create(key=key, note="greeted")


@task(name="deploys.new_name", aliases=["deploys.old_name"])
def new_name(key: str) -> None:
    """Answer to the former name too."""
    Effect.objects.create(key=key, note="by the new name")
