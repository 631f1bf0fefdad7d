"""What the test tasks write: rows whose number shows how often a helper took effect."""

from __future__ import annotations

from uuid import UUID

from django.db import models

from tasks_app.runs import running


def running_outcome() -> UUID | None:
    """Return the outcome whose helper asks, or None outside any run."""
    run = running()
    return run and run.lease.outcome_id


def running_fence() -> int | None:
    """Return the fence of the run that asks, or None outside any run."""
    run = running()
    return run and run.lease.fence


class Effect(models.Model):
    """
    One effect of one helper.

    There is no unique constraint on purpose: an effect that happened twice must show as two
    rows instead of being hidden by the database. Which run it belongs to is noted by itself.
    """

    key = models.CharField(max_length=200, db_index=True)
    note = models.TextField(default="")
    outcome_id = models.UUIDField(null=True, default=running_outcome)
    fence = models.BigIntegerField(null=True, default=running_fence)

    def __str__(self) -> str:
        return f"{self.key}: {self.note}"


class Account(models.Model):
    """A balance that helpers change: a row that several of them want to lock."""

    name = models.CharField(max_length=200)
    balance = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.balance}"
