"""Bulk actions: one act on many outcomes, done by a task in batches."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.records import RecordManager
from tasks_app.uuid7 import uuid7


class BulkAction(models.Model):
    """
    An act on all outcomes that a filter matched, its progress and its end.

    A batch of acts and the `cursor` that moves past them commit together, guarded by the old one:
    so each outcome is met once, whatever dies.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    #: `run_now`, `cancel`, `replay`, `discard` or `move`.
    action = models.CharField(max_length=16)
    #: The filter, and what the act needs beside it, as JSON text.
    selection_json = models.TextField()
    options_json = models.TextField(default="{}")
    #: Primary key and name of the user who asked, as text.
    user_pk = models.CharField(max_length=255)
    username = models.CharField(max_length=255)
    #: Outcomes that matched when it was asked for; those enqueued later are not met.
    total = models.PositiveIntegerField()
    last_id = models.UUIDField()
    #: The outcome that was met last; null before the first batch.
    cursor = models.UUIDField(null=True)
    done = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    #: The first refusals, each with its reason, as JSON text.
    refusals_json = models.TextField(default="[]")
    #: The outcome of the task that does it; null until that is enqueued.
    outcome_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(db_default=DatabaseNow())
    abort_requested_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    #: Why it ended before it had met them all, in one line; empty where it did, or goes on.
    stop_reason = models.CharField(max_length=255, default="", blank=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.action} of {self.total} outcomes by {self.username}"
