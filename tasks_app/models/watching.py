"""What is seen of the whole: counts over time, processes, versions of the code, web requests."""

from django.db import models

from tasks_app.clock import DatabaseNow
from tasks_app.models.records import RecordManager


class Stock(models.Model):
    """What was counted for the metrics: one row, written by `stock.py` alone."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    #: Whoever counts next begins no earlier.
    next_at = models.DateTimeField(db_default=DatabaseNow())
    #: When the last count began; null before the first one.
    taken_at = models.DateTimeField(null=True)
    #: `totals_json` has the outcomes that finished up to here, and the attempts with these ids.
    counted_until = models.DateTimeField(null=True)
    attempts_until = models.BigIntegerField(default=0)
    #: Counts as JSON text: what is settled, and what may still change.
    totals_json = models.TextField(default="{}")
    recent_json = models.TextField(default="{}")

    objects = RecordManager()

    def __str__(self) -> str:
        return f"stock of {self.taken_at}"


class Rollup(models.Model):
    """
    What ended in a span of time, counted: one point of the dashboard's charts.

    Written by whoever takes stock, once that span is settled.
    """

    #: Length of the span in seconds.
    step = models.PositiveIntegerField()
    start_at = models.DateTimeField()
    #: Empty: all tasks together.
    task_name = models.CharField(max_length=255, default="", blank=True)
    #: Counts by state and histograms of waits and runs, as JSON text.
    counts_json = models.TextField(default="{}")

    objects = RecordManager()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=["step", "start_at", "task_name"], name="tasks_rollup_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_name or 'all tasks'} in {self.step} s from {self.start_at}"


class Heartbeat(models.Model):
    """A long-running process, and when it last said that it lives."""

    name = models.CharField(max_length=255, primary_key=True)
    #: `worker`, `relay` or `beat`.
    kind = models.CharField(max_length=16)
    seen_at = models.DateTimeField(db_default=DatabaseNow(), db_index=True)
    #: When the process began; null where older code has written it.
    started_at = models.DateTimeField(null=True)
    #: Version of the project's code that it runs; empty where that is not known.
    version = models.CharField(max_length=128, default="", db_default="", blank=True)
    #: What it says of itself (host, process, pool, queues, memory), as JSON text.
    about_json = models.TextField(default="{}", db_default="{}")

    objects = RecordManager()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Deploy(models.Model):
    """A version of the project's code, and when a process with it first told that it lives."""

    version = models.CharField(max_length=128, primary_key=True)
    first_seen_at = models.DateTimeField(db_default=DatabaseNow(), db_index=True)

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.version} since {self.first_seen_at}"


class WebRequest(models.Model):
    """
    A web request that enqueued something: where its trace begins.

    Written after its response is ready; a process that dies before leaves none. The route is the
    URLconf's pattern, not the path, which may hold what nobody should read.
    """

    request_id = models.CharField(max_length=64, primary_key=True)
    method = models.CharField(max_length=16)
    route = models.CharField(max_length=255, default="", blank=True)
    #: HTTP status of the response; null where an exception went through.
    status = models.PositiveSmallIntegerField(null=True)
    started_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField(db_default=DatabaseNow())

    objects = RecordManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.method} {self.route} ({self.request_id})"
