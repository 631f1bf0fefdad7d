"""The attempts: one row per ended run of an outcome."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.outcome import Outcome
from tasks_app.models.records import RecordManager


class Attempt(models.Model):
    """
    One ended run of an outcome, written by whoever ended it, in the same transaction.

    The run in progress is told by the outcome itself (`worker`, `claimed_at`, `attempt`).
    """

    #: No database constraint: its check would take a shared lock on the outcome's row, which on
    #: MariaDB fights with the renewal.
    outcome = models.ForeignKey(
        Outcome, on_delete=models.CASCADE, related_name="attempts", db_constraint=False
    )
    #: The outcome's `attempt` during this run; a snoozed or released run shares it with the next.
    number = models.PositiveIntegerField()
    fence = models.BigIntegerField()
    state = models.CharField(max_length=16)
    worker = models.CharField(max_length=255)
    #: Since when it could have begun; null where older code has written it.
    due_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(db_default=DatabaseNow())
    #: Dotted path of the exception's class; empty where none was raised.
    error_type = models.CharField(max_length=255, default="", blank=True)
    error = models.TextField(default="", blank=True)
    traceback = models.TextField(default="", blank=True)
    #: The event that tells of this attempt's error; empty where none was sent.
    sentry_event_id = models.CharField(max_length=32, default="", blank=True)
    #: The last lines that were logged during the run, scrubbed and bounded.
    log = models.TextField(default="", db_default="", blank=True)

    objects = RecordManager()

    class Meta:
        ordering = ("fence",)
        constraints = (
            models.UniqueConstraint(fields=["outcome", "fence"], name="tasks_attempt_once"),
        )

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.outcome_id}: {self.state}"
