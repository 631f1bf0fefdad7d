"""The tasks before a deploy."""

from __future__ import annotations

from tasks_app import task
from tests.testapp.models import Effect


@task(name="deploys.greet")
def greet(key: str, note: str) -> None:
    """Take two arguments."""
    Effect.objects.create(key=key, note=note)


@task(name="deploys.old_name")
def old_name(key: str) -> None:
    """Have a name that will not stay."""
    Effect.objects.create(key=key, note="by the old name")


@task(name="deploys.retired")
def retired(key: str) -> None:
    """Be in a module that will not stay."""
    Effect.objects.create(key=key, note="by the old code")
