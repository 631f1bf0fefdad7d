"""
Calls: the wish to run a task, as callers put it, and the row that it becomes.

Nothing here touches a database: what is wrong with a call is said before anything is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.utils import timezone

from tasks_app import arguments, context, subjects
from tasks_app.broker import options_text, task_queue
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.idempotency import Key, conceal
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.options import TaskOptions, read_priority, read_queue
from tasks_app.redaction import secret_texts
from tasks_app.uuid7 import uuid7

When = datetime | timedelta | float

#: The positional and the keyword arguments of a call.
Arguments = tuple[Sequence[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What one call may say beyond its arguments; None means: as the task says."""

    queue: str | None = None
    priority: int | None = None
    run_after: When | None = None
    expires: When | None = None
    idempotency_key: str | None = None
    owner: Any = None
    about: Any = None
    task_id: str | UUID | None = None
    root_id: str | UUID | None = None
    parent_id: str | UUID | None = None
    group_id: str | None = None
    group_index: int | None = None
    replay_of: Outcome | None = None
    #: Limits, headers, callbacks: kept with the row as JSON.
    kept: Mapping[str, Any] = field(default_factory=dict)
    #: Whether relays are told of it; not where the caller claims it at once.
    wakes: bool = True


PLAIN = CallOptions()


@dataclass(frozen=True, slots=True)
class Call:
    """One wish to run a task."""

    task_name: str
    task: TaskOptions
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: CallOptions = PLAIN


def build(call: Call) -> Outcome:
    """
    Return the outcome that a call becomes, not saved yet.

    Raises:
        TypeError: the arguments do not fit the helper's signature.
        InvalidArgument: a value that JSON would not bring back identical, or no possible key.
        ConfigurationError: an option of the call is none.
    """
    texts = encode(call.task, call.args, call.kwargs, conf.MAX_ARGUMENT_BYTES)
    outcome = blank(call, _id_of(call.options))
    outcome.args_json, outcome.kwargs_json = texts
    outcome.idempotency_key = key_text(call)
    return outcome


def encode(
    task: TaskOptions, args: Sequence[Any], kwargs: Mapping[str, Any], max_bytes: int
) -> tuple[str, str]:
    """Return the texts of positional and keyword arguments that the helper can take."""
    encoded = arguments.encode_arguments(args, kwargs, max_bytes)
    task.bound(args, kwargs)
    return encoded


def blank(call: Call, outcome_id: UUID) -> Outcome:
    """Return an outcome that lacks only the call's arguments and key."""
    options, task = call.options, call.task
    parent = context.lineage()
    due = _moment(options.run_after, "run_after")
    outcome = Outcome(
        id=outcome_id,
        task_name=call.task_name,
        queue=task_queue(
            call.task_name,
            read_queue("queue", options.queue) if options.queue else task.queue,
        ),
        priority=task.priority
        if options.priority is None
        else read_priority("priority", options.priority),
        max_attempts=task.policy.max_attempts,
        request_id=context.request_id() or _own_request_id(options),
        root_id=options.root_id or (parent.root_id if parent else outcome_id),
        parent_id=options.parent_id or (parent.outcome_id if parent else None),
        owner_id=owner_id(options.owner),
        group_id=options.group_id,
        group_index=options.group_index,
        replay_of=options.replay_of,
        options_json=_kept_text({"limits": _limits(task), **options.kept}),
        trace_context=context.trace_context(),
    )
    if due is not None:
        outcome.run_at = outcome.announce_at = due
    outcome.expires_at = _moment(
        task.expires if options.expires is None else options.expires, "expires"
    )
    return outcome


def _own_request_id(options: CallOptions) -> str:
    """Return the id of a call that nobody's request causes; the members of a group share one."""
    if context.is_acceptable(options.group_id):
        return str(options.group_id)
    return context.new_request_id()


def _id_of(options: CallOptions) -> UUID:
    if options.task_id is None:
        return uuid7()
    given = outcome_uuid(options.task_id)
    if given is None:
        msg = f"task_id={options.task_id!r} is no UUID; outcomes are named by UUIDs."
        raise InvalidArgument(msg)
    return given


def owner_id(owner: Any) -> Any:
    """Return the primary key of who a call belongs to; without one, of whom its cause has."""
    if owner is None:
        return context.owner_id()
    given = getattr(owner, "pk", owner)
    try:
        return Outcome._meta.get_field("owner").target_field.to_python(given)
    except ValidationError as error:
        msg = f"owner={owner!r} is neither a user nor the primary key of one."
        raise InvalidArgument(msg) from error


def _kept_text(kept: Mapping[str, Any]) -> str:
    try:
        return options_text(kept)
    except (TypeError, ValueError) as error:
        msg = f"Headers and callbacks are kept with the row, as JSON: {error}."
        raise InvalidArgument(msg) from error


def _limits(task: TaskOptions) -> list[float | None] | None:
    if task.timeout is None and task.soft_timeout is None:
        return None
    limits = (task.timeout, task.soft_timeout)
    return [None if limit is None else limit.total_seconds() for limit in limits]


def _moment(when: When | None, name: str) -> Any:
    """Return when something is due, as a value or expression on the database's clock."""
    if when is None:
        return None
    if isinstance(when, datetime):
        return timezone.make_aware(when) if timezone.is_naive(when) else when
    try:
        return DatabaseNow() + as_timedelta(when, name)
    except (TypeError, ValueError) as error:
        msg = f"{error} A datetime is fine too."
        raise InvalidArgument(msg) from None


def key_text(call: Call) -> str | None:
    """Return a call's idempotency key without the secrets of its arguments, if it has one."""
    text = call.options.idempotency_key
    if text is None:
        text = _made_key(call)
        if text is None:
            return None
    longest = 255
    if not isinstance(text, str) or not 0 < len(text) <= longest:
        msg = (
            f"The idempotency key of {call.task_name} must be a text of 1 to {longest} characters."
        )
        raise InvalidArgument(msg)
    if "\0" in text or arguments.has_surrogate(text):
        msg = f"The idempotency key of {call.task_name} holds NUL or a lone surrogate."
        raise InvalidArgument(msg)
    return conceal(call.task_name, text, secret_texts(call.task_name, call.args, call.kwargs))


def _made_key(call: Call) -> str | None:
    """Return the key that the declaration makes of the call's arguments."""
    maker = call.task.idempotency_key
    if maker is None or callable(maker):
        return maker and maker(*call.args, **call.kwargs)
    try:
        return maker.format(**call.task.bound(call.args, call.kwargs))
    except (LookupError, AttributeError) as error:
        msg = f"idempotency_key={maker!r} of {call.task_name} names what is no argument: {error}."
        raise ConfigurationError(msg) from error


def subjects_of(call: Call) -> tuple[subjects.Named, ...]:
    """Return what a call is about: as the caller says, else as the declaration does."""
    if call.options.about is not None:
        return subjects.named(call.options.about)
    return subjects.declared_subjects(call.task, call.args, call.kwargs)


def key_of(call: Call, outcome: Outcome) -> Key | None:
    """Return what reserves the key of an outcome that was built for a call, if it has one."""
    if outcome.idempotency_key is None:
        return None
    digest = arguments.digest(outcome.args_json, outcome.kwargs_json)
    return Key(call.task_name, outcome.idempotency_key, digest, outcome.id)
