"""Causes: why outcomes failed, so that failures of one kind can be told and replayed together."""

from django.db import models

from tasks_app.models.outcome import Outcome
from tasks_app.models.records import RecordManager


class Cause(models.Model):
    """
    Why an outcome is `failed`: the exception's class, and where in the project's code.

    Written in the transaction that fails it.
    """

    outcome = models.OneToOneField(
        Outcome,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="cause",
        db_constraint=False,
    )
    #: Failures with one fingerprint are shown as one group: a hash, hexadecimal.
    fingerprint = models.CharField(max_length=32)
    task_name = models.CharField(max_length=255)
    #: Dotted path of the exception's class, or the reason where none was raised.
    error_type = models.CharField(max_length=255)
    #: Module and function of the deepest frame in the project's code; may be empty.
    place = models.CharField(max_length=255, default="", blank=True)
    failed_at = models.DateTimeField()
    #: When it was last replayed; null: never.
    replayed_at = models.DateTimeField(null=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()
        indexes = (
            models.Index(fields=["failed_at"], name="tasks_cause_time"),
            models.Index(fields=["fingerprint", "failed_at"], name="tasks_cause_kind"),
        )

    def __str__(self) -> str:
        return f"{self.outcome_id}: {self.error_type} in {self.place}"
