"""Idempotency keys, and who asked for an outcome that was there already."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.records import RecordManager


class IdempotencyKey(models.Model):
    """
    Which outcome a task's key stands for.

    The key is free again once its outcome is gone, or finished `IDEMPOTENCY_TTL` ago: that is
    read from the outcome, not stored.
    """

    #: SHA-256 of task name and key, hexadecimal.
    scope = models.CharField(max_length=64, primary_key=True)
    #: SHA-256 of the arguments, hexadecimal.
    arguments = models.CharField(max_length=64)
    outcome_id = models.UUIDField(db_index=True)

    objects = RecordManager()

    def __str__(self) -> str:
        return f"{self.scope} → {self.outcome_id}"


class Repeat(models.Model):
    """A call that got an outcome which its idempotency key led to, instead of a new one."""

    outcome_id = models.UUIDField(db_index=True)
    asked_at = models.DateTimeField(db_default=DatabaseNow())
    #: The request that asked; null where none did.
    request_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: none was set
    #: The outcome whose helper asked; null where none did.
    parent_id = models.UUIDField(null=True)
    #: Primary key of the user, as text; empty where nobody was logged in.
    owner_pk = models.CharField(max_length=255, default="", blank=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.outcome_id} was asked for again at {self.asked_at}"
