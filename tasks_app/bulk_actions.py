"""
Bulk actions: one act on everything that a filter matches, done by a task in batches.

A batch's acts, its counts and the step of the row's `cursor` past it commit together, and the step
is guarded by the cursor before it: a run that is killed or overtaken repeats nothing and skips
nothing. Outcomes enqueued after the action was asked for are not met, nor are those that ended
since. The user's permission is asked again before each batch.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseFailure
from django.db import transaction
from django.db.models import F

from tasks_app import current, signals
from tasks_app.acts import ACTS, Act
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.declare import task
from tasks_app.exceptions import Snooze
from tasks_app.failures import short_line
from tasks_app.models import BulkAction, Outcome
from tasks_app.retry import RetryPolicy
from tasks_app.selection import Selection, SelectionError
from tasks_app.selection_texts import as_json, from_json
from tasks_app.states import State
from tasks_app.transience import is_transient, pessimistic

#: Name of the task.
NAME = "tasks_app.bulk_action"

#: Outcomes per transaction.
BATCH = 100

#: Refusals that are kept with their reasons; all are counted.
KEPT_REFUSALS = 20

#: Characters of a kept selection's words in the admin's history.
LONGEST_WORDS = 500


def start(  # noqa: PLR0913 - what, by whom, and what they were told
    user: Any,
    action: str,
    selection: Selection,
    options: Mapping[str, Any] | None = None,
    *,
    last_id: UUID | None = None,
    at_most: int | None = None,
) -> BulkAction:
    """
    Record a bulk action and enqueue its task, in one transaction with a line of history.

    Args:
        user: Who asks; the acts are theirs.
        action: Name of an act of `acts.ACTS`.
        selection: Which outcomes; ages are counted from now.
        options: What the act needs beside; see `acts.read_options`.
        last_id: The newest outcome that may be met; None: the newest there is.
        at_most: How many the user was told of; None: any number.

    Raises:
        PermissionDenied: the user may not do this act.
        SelectionError: nothing matches, or more than the user was told of.
    """
    act = ACTS[action]
    if not act.is_allowed(user):
        raise PermissionDenied
    frozen = selection.frozen()
    newest = last_id or newest_id()
    total = 0 if newest is None else matching(frozen, act, newest).count()
    if newest is None or not total:
        raise SelectionError("Nothing that matches can be acted on.")
    if at_most is not None and total > at_most:
        raise SelectionError(f"{total} match by now; nothing was done.")
    with transaction.atomic(using=conf.DATABASE):
        bulk = BulkAction.objects.create(
            action=act.name,
            selection_json=as_json(frozen),
            options_json=json.dumps(dict(options or {})),
            user_pk=str(user.pk),
            username=short_line(user.get_username()),
            total=total,
            last_id=newest,
        )
        _log(bulk, f"Started: {act.title}, {total} outcomes ({_short(str(frozen))}).")
        outcome = work_through.using(owner=user).enqueue(bulk.pk)
        _rows(bulk).update(outcome_id=outcome.pk)
    bulk.refresh_from_db(using=conf.DATABASE)
    return bulk


def newest_id() -> UUID | None:
    """Return the id beyond which an action that is asked for now meets nothing."""
    return Outcome.objects.order_by("-pk").values_list("pk", flat=True).first()


def matching(selection: Selection, act: Act, last_id: UUID) -> Any:
    """Return the outcomes that match and that the act is for, up to an id."""
    return selection.outcomes().filter(state__in=sorted(act.states), pk__lte=last_id)


def abort(bulk: BulkAction, by: Any) -> bool:
    """
    Let a bulk action end after the batch it is at; False if it has ended, or was asked to.

    What was done stays done. One whose task still waits ends at once.
    """
    with transaction.atomic(using=conf.DATABASE):
        asked = (
            _rows(bulk)
            .filter(finished_at__isnull=True, abort_requested_at__isnull=True)
            .update(
                abort_requested_at=DatabaseNow(), stop_reason=short_line(f"It was aborted by {by}.")
            )
        )
        if not asked:
            return False
        _log(bulk, "Aborted.", by)
    for outcome in Outcome.objects.filter(pk__in=[bulk.outcome_id], state=State.PENDING):
        outcome.cancel(by=by, reason="aborted")
    return True


@task(name=NAME, atomic=False, priority=9, retry=RetryPolicy(max_attempts=10))
def work_through(bulk_id: UUID) -> dict[str, int]:
    """Do a bulk action from where it stands to its end; returns its counts."""
    bulk = BulkAction.objects.get(pk=bulk_id)
    if current.outcome_id is not None:
        _rows(bulk).update(outcome_id=current.outcome_id)
    while bulk.finished_at is None:
        current.raise_if_cancelled()
        _take_turn(bulk)
        bulk.refresh_from_db(using=conf.DATABASE)
        current.progress(bulk.done + bulk.refused, bulk.total, bulk.stop_reason)
    return {"done": bulk.done, "refused": bulk.refused, "total": bulk.total}


def connect() -> None:
    """Let a bulk action end when its own outcome is cancelled."""
    signals.cancelled.connect(_end_cancelled, dispatch_uid=__name__)


def acting_user(bulk: BulkAction) -> Any:
    """Return the user who asked for it, as the database knows them now, or None."""
    users = get_user_model()._default_manager  # noqa: SLF001 - its name in any model
    return users.filter(pk=bulk.user_pk).first()


def _take_turn(bulk: BulkAction) -> None:
    """Do one batch, or end where there is a reason to, or nothing left."""
    act, user = ACTS[bulk.action], acting_user(bulk)
    if bulk.abort_requested_at is not None:
        _finish(bulk, bulk.stop_reason)
    elif user is None or not act.is_allowed(user):
        _finish(bulk, f"{bulk.username} has lost the permission for it.")
    elif ids := _next_ids(bulk, act):
        try:
            _do_batch(bulk, act, user, ids)
        except DatabaseFailure as error:
            if is_transient(error):
                raise Snooze(after=1) from error
            raise
    else:
        _finish(bulk)


def _next_ids(bulk: BulkAction, act: Act) -> list[UUID]:
    rows = matching(from_json(bulk.selection_json), act, bulk.last_id)
    rows = rows.filter(created_at__lte=bulk.created_at).exclude(finished_at__gt=bulk.created_at)
    if bulk.cursor is not None:
        rows = rows.filter(pk__gt=bulk.cursor)
    return list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])


def _do_batch(bulk: BulkAction, act: Act, user: Any, ids: Sequence[UUID]) -> None:
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        # First of all, so that of two runs one waits here and then finds the cursor moved.
        if not _advance(bulk, ids[-1]):
            return
        outcomes = Outcome.objects.in_bulk(ids)
        options = options_of(bulk)
        refusals = []
        for pk in ids:
            why = _refusal(act, outcomes.get(pk), user, options)
            if why:
                refusals.append([str(pk), short_line(why)])
        _rows(bulk).update(
            done=F("done") + len(ids) - len(refusals),
            refused=F("refused") + len(refusals),
            refusals_json=json.dumps([*kept_refusals(bulk), *refusals][:KEPT_REFUSALS]),
        )


def _advance(bulk: BulkAction, to: UUID) -> bool:
    """Move the cursor past a batch; False where another run has, or the end has come."""
    rows = _rows(bulk).filter(
        cursor=bulk.cursor, finished_at__isnull=True, abort_requested_at__isnull=True
    )
    return bool(rows.update(cursor=to))


def _refusal(act: Act, outcome: Outcome | None, user: Any, options: Mapping[str, Any]) -> str:
    return "it was deleted." if outcome is None else act.do(outcome, user, options)


def kept_refusals(bulk: BulkAction) -> list[list[str]]:
    """Return the first refusals: id and reason of each."""
    refusals: list[list[str]] = json.loads(bulk.refusals_json)
    return refusals


def options_of(bulk: BulkAction) -> dict[str, Any]:
    """Return what the act needs beside its outcomes."""
    options: dict[str, Any] = json.loads(bulk.options_json)
    return options


def _finish(bulk: BulkAction, why: str = "") -> None:
    """End it, once, whoever else would."""
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        ended = _rows(bulk).filter(finished_at__isnull=True)
        if not ended.update(finished_at=DatabaseNow(), stop_reason=short_line(why)):
            return
        bulk.refresh_from_db(using=conf.DATABASE)
        counts = f"{bulk.done} done, {bulk.refused} refused, of {bulk.total}"
        _log(bulk, f"Ended: {counts}. {bulk.stop_reason}".strip())


def _end_cancelled(outcome: Outcome, **kwargs: Any) -> None:
    if outcome.task_name != NAME:
        return
    for bulk in BulkAction.objects.filter(outcome_id=outcome.pk, finished_at__isnull=True):
        _finish(bulk, bulk.stop_reason or "Its task was cancelled.")


def _rows(bulk: BulkAction) -> Any:
    return BulkAction.objects.filter(pk=bulk.pk)


def _log(bulk: BulkAction, message: str, by: Any = None) -> None:
    """Write a line of the admin's history, where there is an admin, and a user to whom it goes."""
    if not apps.is_installed("django.contrib.admin"):
        return
    user = by or acting_user(bulk)
    if user is not None:
        entries = apps.get_model("admin", "LogEntry").objects
        kinds = apps.get_model("contenttypes", "ContentType").objects
        entries.create(
            user_id=user.pk,
            content_type=kinds.get_for_model(BulkAction),
            object_id=str(bulk.pk),
            object_repr=str(bulk)[:200],
            action_flag=2,
            change_message=message,
        )


def _short(words: str) -> str:
    return words if len(words) <= LONGEST_WORDS else f"{words[: LONGEST_WORDS - 1]}…"
