"""Periodic jobs: what decides beside django-celery-beat's rows, and which slots were decided."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.records import RecordManager


class Timer(models.Model):
    """
    What this app knows of one `PeriodicTask` of django-celery-beat, which says when and what.

    Made and written by the leading beat and by whoever syncs declarations; a row whose entry is
    gone is deleted by the leader.
    """

    #: Primary key of the `PeriodicTask`; no foreign key: that table may be in another database.
    entry_id = models.PositiveBigIntegerField(primary_key=True)
    #: The entry's name when it was read last.
    name = models.CharField(max_length=200)
    #: Name by which code declares it (`@periodic`); null where it was made by hand.
    code_name = models.CharField(max_length=200, null=True, unique=True)  # noqa: DJ001 - null: by hand
    #: What code declared last, as JSON text: what the row says otherwise, the admin has changed.
    declared_json = models.TextField(default="", blank=True)
    #: What becomes of slots whose time passed unnoticed: `skip`, `latest` or `all`.
    missed = models.CharField(max_length=16, default="latest")
    #: Slots made up at most under `all`; null: no limit.
    missed_max = models.PositiveIntegerField(null=True)
    #: What becomes of a slot while the last one's outcome goes on: `allow`, `skip`, `queue_one`.
    overlap = models.CharField(max_length=16, default="allow")
    #: Slots are put off by up to so many seconds, each by its own, always the same.
    jitter_seconds = models.FloatField(default=0)
    #: Hash of what decides the times; another one starts the counting anew.
    timetable_hash = models.CharField(max_length=64, default="", blank=True)
    #: The next slot; null where none comes, or the entry is switched off.
    next_at = models.DateTimeField(null=True)
    #: When the next slot is decided: its time and its jitter; null as `next_at`.
    due_at = models.DateTimeField(null=True)
    #: The last slot that was decided; null before the first one.
    last_at = models.DateTimeField(null=True)
    #: The slot that waits, under `queue_one`, for the one before it; null: none does.
    waiting_at = models.DateTimeField(null=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()
        indexes = (models.Index(fields=["due_at"], name="tasks_timer_due"),)

    def __str__(self) -> str:
        return self.name


class Slot(models.Model):
    """
    One scheduled time of one entry, and what was decided about it, once and for all.

    Inserted in the transaction that enqueues its outcome; the unique pair of entry and time keeps
    a second beat from firing it again.
    """

    entry_id = models.PositiveBigIntegerField()
    slot_at = models.DateTimeField()
    #: The entry's name at that time.
    name = models.CharField(max_length=200)
    #: `fired`, `made_up` (late, by the policy), `backfilled`, `by_hand`, `queued` (waits for the
    #: one before it), `missed` (left out by the policy) or `overlapped` (left out, that one ran).
    decision = models.CharField(max_length=16)
    #: The outcome that it enqueued; null where it enqueued none.
    outcome_id = models.UUIDField(null=True)
    decided_at = models.DateTimeField(db_default=DatabaseNow())
    #: Who asked for it; empty for a scheduler.
    asked_by = models.CharField(max_length=255, default="", blank=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(fields=["entry_id", "slot_at"], name="tasks_slot_once"),
        )
        indexes = (models.Index(fields=["decided_at"], name="tasks_slot_decided"),)

    def __str__(self) -> str:
        return f"{self.name} at {self.slot_at}: {self.decision}"


class Leadership(models.Model):
    """Which process leads, such as the beat that decides slots, and until when unless it renews."""

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=255)
    #: On the database's clock.
    until = models.DateTimeField()
    #: Grows with each change of the holder; guards what a former leader still writes.
    fence = models.BigIntegerField(default=0)

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.holder} leads {self.name}"
