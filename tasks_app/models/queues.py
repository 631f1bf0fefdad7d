"""Queues that rest: their outcomes wait until somebody resumes them."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.records import RecordManager


class PausedQueue(models.Model):
    """A queue that is paused; a queue without a row here is not."""

    name = models.CharField(max_length=128, primary_key=True)
    paused_at = models.DateTimeField(db_default=DatabaseNow())
    #: When somebody last looked for outcomes of it that have expired.
    searched_at = models.DateTimeField(db_default=DatabaseNow())
    #: Who paused it, as text; empty where nobody said.
    paused_by = models.CharField(max_length=255, default="", blank=True)
    #: Why, in one line.
    reason = models.CharField(max_length=255, default="", blank=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"queue {self.name}"
