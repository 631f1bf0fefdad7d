"""Chords: callbacks that wait for every member of a group."""

from django.db import models

from tasks_app.models.records import RecordManager


class Chord(models.Model):
    """A callback that waits for every member of a group."""

    #: The group's id.
    id = models.CharField(max_length=64, primary_key=True)
    size = models.PositiveIntegerField()
    #: Members that succeeded so far; replayed ones count again, so the last look counts places.
    succeeded = models.PositiveIntegerField(default=0)
    #: The callback, as Celery's signature in JSON text.
    body_json = models.TextField()
    #: When the callback was enqueued or given up; null while it waits.
    finished_at = models.DateTimeField(null=True)

    objects = RecordManager()

    def __str__(self) -> str:
        return f"chord {self.id}: {self.succeeded} of {self.size}"
