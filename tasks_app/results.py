"""
The result backend: `AsyncResult` reads the outcome's row.

Results of plain Celery tasks go to django-celery-results where that is installed, and nowhere
otherwise. Chords over outcomes are kept by `canvas.py`, in the transaction that applies them.
"""

from typing import Any

from celery import Celery
from celery import states as celery_states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError
from celery.result import GroupResult
from django.apps import apps
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from tasks_app import canvas
from tasks_app.exceptions import TaskFailed
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.states import State

#: Celery's word for each state.
CELERY_STATES = {
    State.PENDING: celery_states.PENDING,
    State.RUNNING: celery_states.STARTED,
    State.SUCCEEDED: celery_states.SUCCESS,
    State.FAILED: celery_states.FAILURE,
    State.CANCELLED: celery_states.REVOKED,
    State.EXPIRED: celery_states.REVOKED,
}


class OutcomeBackend(BaseBackend):
    """Reads outcomes; delegates what has none."""

    app: Celery
    supports_autoexpire = True
    supports_native_join = False

    @cached_property
    def plain(self) -> Any:
        """django-celery-results' backend, or None where that app is not installed."""
        if not apps.is_installed("django_celery_results"):
            return None
        backend = import_string("django_celery_results.backends.DatabaseBackend")
        return backend(app=self.app, url="django-db")

    def get_task_meta(self, task_id: Any, cache: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Celery's signature
        return self._get_task_meta_for(task_id)

    def _get_task_meta_for(self, task_id: Any) -> dict[str, Any]:
        outcome = _outcome(task_id)
        if outcome is not None:
            return _meta(outcome)
        if self.plain is not None:
            return dict(self.plain.get_task_meta(task_id, cache=False))
        return {"status": celery_states.PENDING, "result": None}

    def store_result(self, task_id: Any, result: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        """Store a plain task's result; an outcome's fate is written by `outcomes.py` alone."""
        if self.plain is not None and _outcome(task_id) is None:
            self.plain.store_result(task_id, result, state, *args, **kwargs)
        return result

    def mark_as_failure(self, task_id: Any, exc: Any, *args: Any, **kwargs: Any) -> Any:
        if _outcome(task_id) is None:
            return super().mark_as_failure(task_id, exc, *args, **kwargs)
        return None

    def forget(self, task_id: Any) -> None:
        """Forget a plain task's result; outcomes are history and end by retention."""
        if self.plain is not None and _outcome(task_id) is None:
            self.plain.forget(task_id)

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Record the chord in the transaction in which its header is enqueued."""
        header: Any = self.app.GroupResult(*header_result_args)
        canvas.open_chord(str(header.id), len(header.results), body)

    def set_chord_size(self, group_id: Any, chord_size: int) -> None:
        canvas.resize_chord(str(group_id), chord_size)

    def on_chord_part_return(self, request: Any, state: Any, result: Any, **kwargs: Any) -> None:
        """Do nothing: a member's own settlement counts it."""

    def save_group(self, group_id: Any, result: Any) -> Any:
        """Return the group as it is: its members' rows name it."""
        return result

    def restore_group(self, group_id: Any, cache: bool = True) -> GroupResult | None:  # noqa: FBT001, FBT002 - Celery's signature
        """Rebuild a group's result from the rows of its members; None without any."""
        ids = Outcome.objects.filter(group_id=str(group_id)).order_by("group_index", "id")
        members = [self.app.AsyncResult(str(pk)) for pk in ids.values_list("pk", flat=True)]
        return self.app.GroupResult(str(group_id), members) if members else None

    def delete_group(self, group_id: Any) -> None:
        """Do nothing: the members' rows end by retention."""

    def as_uri(self, include_password: bool = False) -> str:  # noqa: FBT001, FBT002 - Celery's signature
        return "tasks-app://"


def _outcome(task_id: Any) -> Outcome | None:
    pk = outcome_uuid(task_id)
    return None if pk is None else Outcome.objects.filter(pk=pk).first()


def _meta(outcome: Outcome) -> dict[str, Any]:
    state = CELERY_STATES[State(outcome.state)]
    if outcome.state == State.PENDING and outcome.attempt:
        state = celery_states.RETRY
    return {
        "task_id": str(outcome.id),
        "name": outcome.task_name,
        "status": state,
        "result": _value(outcome),
        "traceback": None,
        "children": [],
        "date_done": outcome.finished_at,
        "retries": max(outcome.attempt - 1, 0),
        "worker": outcome.worker,
        "queue": outcome.queue,
    }


def _value(outcome: Outcome) -> Any:
    if outcome.state == State.SUCCEEDED:
        return outcome.result
    if outcome.state == State.FAILED:
        return TaskFailed(outcome_id=outcome.id, error=outcome.error, reason=outcome.reason)
    if outcome.state in {State.CANCELLED, State.EXPIRED}:
        return TaskRevokedError(outcome.cancel_reason or outcome.state)
    return None
