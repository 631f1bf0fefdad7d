"""
The outcome: one row per call, from the moment it was enqueued.

Fields, constraints and reading live here. State is written by `outcomes.py` alone; database
constraints refuse the combinations that no path may leave behind.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections, models
from django.db.models import Case, F, Q, When

from tasks_app import arguments
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.exceptions import TaskCancelled, TaskFailed
from tasks_app.models.indexes import SparseIndex
from tasks_app.models.records import RecordManager
from tasks_app.options import DEFAULT_PRIORITY, read_priority, read_queue
from tasks_app.redaction import guarded_arguments, mask_arguments
from tasks_app.states import FINAL, State
from tasks_app.uuid7 import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

#: Seconds between two looks of `Outcome.get()`: the first, and the longest.
FIRST_LOOK, LONGEST_LOOK = 0.005, 0.25


class Progress(NamedTuple):
    """What a helper last reported: `done` of `total` (None: unknown) and a message."""

    done: float
    total: float | None
    message: str


class Acts:
    """What an outcome can be told to do; set by `wiring.py`, since the doers lie above."""

    cancel: Callable[[Outcome, Any, str], bool]
    replay: Callable[[Outcome, Any], Outcome]
    run_now: Callable[[UUID], bool]
    discard: Callable[[Outcome, Any, str], bool]
    move: Callable[[UUID, str | None, int | None], bool]


acts = Acts()


class OutcomeQuerySet(models.QuerySet["Outcome"]):
    """Outcomes by what they are."""

    def due(self) -> Self:
        return self.filter(state=State.PENDING, announce_at__lte=DatabaseNow())

    def orphaned(self) -> Self:
        """Return running outcomes whose lease has run out."""
        return self.filter(state=State.RUNNING, lease_until__lt=DatabaseNow())

    def final(self) -> Self:
        return self.filter(state__in=FINAL)

    def for_request(self, request_id: str) -> Self:
        """
        Return all that a request caused, parents before their children.

        In the order of enqueueing: by the database's clock; within one tick of it the tree's root
        comes first, then what one process enqueued, in its order.
        """
        is_child = Case(When(pk=F("root_id"), then=0), default=1)
        return self.filter(request_id=request_id).order_by("created_at", is_child, "id")


#: `Outcome.objects`.
OutcomeManager = RecordManager.from_queryset(OutcomeQuerySet, class_name="OutcomeManager")


class Outcome(models.Model):
    """
    The truth about one call, from the moment it was enqueued.

    `created` tells, on the object that `enqueue` returned, whether this call made the row or an
    idempotency key led to an existing one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    task_name = models.CharField(max_length=255)
    queue = models.CharField(max_length=128)
    priority = models.PositiveSmallIntegerField(default=DEFAULT_PRIORITY)
    state = models.CharField(max_length=16, default=State.PENDING.value)
    #: Why it failed (`states.Reason`); empty otherwise.
    reason = models.CharField(max_length=32, default="", blank=True)
    #: Canonical JSON text, not JSONField: jsonb rewrites numbers and refuses some strings inside
    #: the caller's transaction.
    args_json = models.TextField(default="[]")
    kwargs_json = models.TextField(default="{}")
    result_json = models.TextField(null=True)  # noqa: DJ001 - null: nothing stored; "null" is a result
    #: Why a success has no stored result; empty when it has.
    result_omitted = models.CharField(max_length=255, default="", blank=True)
    #: One line, scrubbed: how the last attempt failed.
    error = models.TextField(default="", blank=True)
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: none was given
    #: Not before this time.
    run_at = models.DateTimeField(db_default=DatabaseNow())
    #: Never runs from this time on; null: no limit.
    expires_at = models.DateTimeField(null=True)
    #: When the relay rings next. Moves ahead with every announcement.
    announce_at = models.DateTimeField(db_default=DatabaseNow())
    announced = models.PositiveIntegerField(default=0)
    #: Runs that count: snoozed and released ones are given back.
    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=1)
    #: Runs whose worker was lost.
    crashes = models.PositiveIntegerField(default=0)
    #: Names a run; grows with every claim and whenever a run is taken from its worker.
    fence = models.BigIntegerField(default=0)
    #: The fence of the run that ended it; null until final, and where no run did.
    finish_fence = models.BigIntegerField(null=True)
    #: The running claim ends here unless it is renewed; null unless running.
    lease_until = models.DateTimeField(null=True)
    #: Start of the current run; null unless running.
    claimed_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=255, default="", blank=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=255, default="", blank=True)
    progress_done = models.FloatField(null=True)
    progress_total = models.FloatField(null=True)
    progress_message = models.CharField(max_length=255, default="", blank=True)
    created_at = models.DateTimeField(db_default=DatabaseNow())
    #: Start of the first run.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    request_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: none was set
    #: The first outcome of the tree that this one belongs to; itself for a first one.
    root_id = models.UUIDField()
    parent_id = models.UUIDField(null=True)
    replay_of = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.SET_NULL,
        related_name="replays",
        db_constraint=False,
        db_index=False,
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    group_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: in no group
    group_index = models.PositiveIntegerField(null=True)
    #: Per-call options as JSON text: callbacks, the rest of a chain, limits, headers; may be "".
    options_json = models.TextField(default="", blank=True)
    #: Where in a distributed trace it was enqueued: propagation headers as JSON text; may be "".
    trace_context = models.TextField(default="", db_default="", blank=True)

    objects = OutcomeManager()

    #: False on the object returned by an `enqueue` whose idempotency key was taken.
    created: bool = True

    class Meta:
        indexes = (
            models.Index(
                fields=["state", "queue", "priority", "announce_at", "id"],
                name="tasks_outcome_relay",
            ),
            models.Index(fields=["state", "finished_at"], name="tasks_outcome_finished"),
            models.Index(fields=["request_id"], name="tasks_outcome_request"),
            SparseIndex(fields=["group_id"], name="tasks_outcome_members"),
            SparseIndex(fields=["replay_of"], name="tasks_outcome_replays"),
        )
        constraints = (
            models.CheckConstraint(
                name="tasks_outcome_state",
                condition=Q(state__in=[str(state) for state in State]),
            ),
            models.CheckConstraint(
                name="tasks_outcome_lease",
                condition=Q(state=State.RUNNING, lease_until__isnull=False)
                | (~Q(state=State.RUNNING) & Q(lease_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="tasks_outcome_finished",
                condition=Q(state__in=sorted(FINAL), finished_at__isnull=False)
                | (~Q(state__in=sorted(FINAL)) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="tasks_outcome_fence", condition=Q(fence__gte=F("attempt"))
            ),
        )
        permissions = (
            ("retry_outcome", "Can run a waiting outcome now"),
            ("cancel_outcome", "Can cancel an outcome"),
            ("replay_outcome", "Can replay an outcome"),
            ("discard_outcome", "Can discard a waiting outcome"),
            ("move_outcome", "Can change queue and priority of a waiting outcome"),
            ("pause_queue", "Can pause and resume a queue"),
            ("pause_schedule", "Can pause and resume a schedule"),
            ("backfill_schedule", "Can run a schedule now and for past slots"),
            ("view_outcome_arguments", "Can see arguments and results"),
            ("enqueue_outcome", "Can enqueue a task by hand"),
        )

    def __str__(self) -> str:
        return f"{self.task_name} {self.id}"

    def __repr__(self) -> str:
        args, kwargs = mask_arguments(self.task_name, self.args, self.kwargs)
        return (
            f"<Outcome {self.id} {self.task_name} {self.state} attempt={self.attempt}"
            f" args={args!r} kwargs={kwargs!r}>"
        )

    @property
    def args(self) -> list[Any]:
        """The positional arguments; secrets are masked in their `repr`."""
        return guarded_arguments(self.task_name, arguments.decode(self.args_json), {})[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments; secrets are masked in their `repr`."""
        return guarded_arguments(self.task_name, [], arguments.decode(self.kwargs_json))[1]

    @property
    def result(self) -> Any:
        """What the helper returned; None while there is nothing, or nothing stored."""
        return None if self.result_json is None else arguments.decode(self.result_json)

    @property
    def progress(self) -> Progress | None:
        """What the helper last reported, or None."""
        if self.progress_done is None:
            return None
        return Progress(self.progress_done, self.progress_total, self.progress_message)

    @property
    def most_attempts(self) -> int:
        """How far `attempt` may count: a lost run has its number, but costs none."""
        return self.max_attempts + self.crashes

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    def refresh(self) -> None:
        """Read the row again."""
        self.refresh_from_db(using=conf.DATABASE)

    async def arefresh(self) -> None:
        """Read the row again."""
        await sync_to_async(self.refresh)()

    def get(self, timeout: float | timedelta | None = None) -> Any:
        """
        Wait for a final state and return the result.

        Runs outside any transaction: inside one, some databases would never show the change.

        Args:
            timeout: Seconds or timedelta to wait at most; None waits for ever.

        Raises:
            TaskFailed: it failed or expired; carries the remote error.
            TaskCancelled: it was cancelled.
            TimeoutError: it was not final in time.
        """
        look = FIRST_LOOK
        limit = _seconds(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        self.refresh()
        while not self.is_final:
            if deadline is not None and time.monotonic() >= deadline:
                msg = f"{self} was still {self.state} after {limit:g} s."
                raise TimeoutError(msg)
            time.sleep(look)
            look = min(look * 2, LONGEST_LOOK)
            self.refresh()
        return self._value()

    async def aget(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """Wait for a final state and return the result; see `get`."""
        return await sync_to_async(self._get_in_thread, thread_sensitive=False)(timeout)

    def _get_in_thread(self, timeout: float | timedelta | None) -> Any:
        """Do what `get` does in a thread whose database connection nobody else would close."""
        try:
            return self.get(timeout)
        finally:
            connections[conf.DATABASE].close()

    def cancel(self, by: Any = None, reason: str = "") -> bool:
        """
        Cancel it: pending never runs; running is asked, and stopped after `CANCEL_GRACE`.

        Returns:
            False if it was final already.
        """
        return acts.cancel(self, by, reason)

    def replay(self, by: Any = None) -> Outcome:
        """
        Enqueue the call of a final outcome again, in the current transaction.

        Returns:
            The new outcome; its `replay_of` is this one.

        Raises:
            ValueError: it is not final yet.
            ConfigurationError: its task is not registered in this process.
        """
        return acts.replay(self, by)

    def run_now(self) -> bool:
        """Make a pending outcome due at once; False if it is not pending."""
        is_due = acts.run_now(self.id)
        self.refresh()
        return is_due

    def discard(self, by: Any = None, reason: str = "") -> bool:
        """Give up a pending outcome: it fails as `discarded`; False if it is not pending."""
        return acts.discard(self, by, reason)

    def move(self, queue: str | None = None, priority: int | None = None) -> bool:
        """
        Give a pending outcome another queue or priority; False if it is not pending.

        Raises:
            ConfigurationError: that is no queue's name, or no priority.
        """
        is_moved = acts.move(
            self.id,
            None if queue is None else read_queue("queue", queue),
            None if priority is None else read_priority("priority", priority),
        )
        self.refresh()
        return is_moved

    def _value(self) -> Any:
        if self.state == State.SUCCEEDED:
            return self.result
        if self.state == State.CANCELLED:
            raise TaskCancelled(self.cancel_reason or f"{self} was cancelled.", outcome_id=self.id)
        last = self.attempts.last()
        raise TaskFailed(
            outcome_id=self.id,
            error_type=last.error_type if last else "",
            error=self.error or self.state,
            reason=self.reason or self.state,
            traceback=last.traceback if last else "",
        )


def _seconds(timeout: float | timedelta | None) -> float | None:
    if timeout is None or isinstance(timeout, int | float):
        return timeout
    return timeout.total_seconds()


def outcome_uuid(value: Any) -> UUID | None:
    """Return a task id as the UUID of an outcome, or None where it cannot be one."""
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        return None
