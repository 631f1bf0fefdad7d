"""
Enqueue: validate → key → one row, in the caller's transaction. No network.

After the commit the outcome is due and the relay rings for it; after a rollback nothing has
happened. This is the only module that writes new outcomes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections, transaction

from tasks_app import arguments, calls, context, signals, subjects
from tasks_app.calls import PLAIN, Arguments, Call, CallOptions
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.exceptions import IdempotencyConflict
from tasks_app.idempotency import Key, hand_over, note_repeats, reserve, reserve_many
from tasks_app.inserts import copies, insert, insert_copies
from tasks_app.models import Cause, Outcome
from tasks_app.options import TaskOptions
from tasks_app.statements import BATCH
from tasks_app.states import State
from tasks_app.surroundings import surrounded
from tasks_app.uuid7 import uuid7s
from tasks_app.wakeup_sockets import wake_relays_after_commit


@dataclass(slots=True)
class Wish:
    """Calls of one task that are being enqueued, as their surroundings see them."""

    task_name: str
    size: int = 1
    #: The outcome, or the first of many; None until it is known.
    outcome: Outcome | None = None
    #: Why nothing was enqueued.
    error: BaseException | None = None


#: What stands around every enqueue, outermost first; integrations add theirs.
surroundings: list[Callable[[Wish], AbstractContextManager[None] | None]] = []


def enqueue(call: Call) -> Outcome:
    """
    Record the wish to run a task: one INSERT, and one each for a key and for its subjects.

    A call whose key led to an existing outcome is noted as its `Repeat`, in the same transaction.

    Runs in the caller's transaction of `TASKS_APP["DATABASE"]`, or in its own where there is none.

    Returns:
        The new outcome (`created` is True), or the one that holds the idempotency key.

    Raises:
        TypeError: the arguments do not fit the helper's signature.
        InvalidArgument: a value that JSON would not bring back identical, or no possible key.
        ConfigurationError: an option of the call is none.
        IdempotencyConflict: the key belongs to a call with other arguments.
    """
    return _surrounded(call.task_name, partial(_enqueue, call))


def _surrounded(task_name: str, act: Callable[[], Outcome]) -> Outcome:
    """Make one outcome inside what stands around every enqueue."""
    if not surroundings:
        return act()
    with _told(Wish(task_name)) as wish:
        wish.outcome = act()
    return wish.outcome


@contextmanager
def _told(wish: Wish) -> Iterator[Wish]:
    with surrounded(surroundings, wish):
        try:
            yield wish
        except BaseException as error:
            wish.error = error
            raise


def _enqueue(call: Call) -> Outcome:
    outcome = calls.build(call)
    about = calls.subjects_of(call)
    key = calls.key_of(call, outcome)
    own_id = call.options.task_id is not None
    is_single = key is None and not about
    with nullcontext() if is_single else _transaction(savepoint=own_id):
        existing = None if key is None else reserve(key)
        if existing is not None:
            existing.created = False
            _note_repeats([existing.id], call.options)
            return existing
        _insert(outcome, own_id=own_id)
        subjects.write({outcome.id: about})
    _wake_relays(call.options, outcome.id)
    context.note_enqueued(outcome.request_id)
    crash_point("enqueue.after_insert")
    if signals.enqueued.has_listeners():
        signals.enqueued.send_robust(Outcome, outcome=outcome)
    return outcome


def enqueue_many(
    task_name: str,
    task: TaskOptions,
    given: Iterable[Arguments],
    options: CallOptions = PLAIN,
) -> list[UUID]:
    """
    Record many calls of one task in one atomic bulk write.

    Args:
        task_name: The task's name.
        task: What its declaration said.
        given: Positional and keyword arguments of each call.
        options: What all calls say beyond their arguments.

    Returns:
        The ids in the order of the calls; of the existing outcome where a key was taken.

    Raises:
        TypeError, InvalidArgument, IdempotencyConflict: nothing is written then.
    """
    shared = Call(task_name, task, (), {}, options)
    each = list(given)
    if not surroundings or not each:
        return _enqueue_many(shared, each)
    with _told(Wish(task_name, len(each))) as wish:
        return _enqueue_many(shared, each, wish)


def _enqueue_many(shared: Call, each: Sequence[Arguments], wish: Wish | None = None) -> list[UUID]:
    max_bytes = conf.MAX_ARGUMENT_BYTES
    texts = [calls.encode(shared.task, args, kwargs, max_bytes) for args, kwargs in each]
    ids = uuid7s(len(each))
    keys = _keys(shared, each, texts, ids)
    about = _subjects_of_each(shared, each, ids)
    is_single = not keys and not about
    with nullcontext() if is_single else _transaction(savepoint=bool(keys)):
        existing = reserve_many(keys)
        if existing:
            _note_repeats(list(existing.values()), shared.options)
        new = [place for place in range(len(each)) if place not in existing]
        if new:
            row = calls.blank(shared, ids[0])
            if wish is not None:
                wish.outcome = row
            _insert_many(row, _columns(row, new, ids, texts, keys))
            if about:
                subjects.write({ids[place]: about[ids[place]] for place in new})
            context.note_enqueued(row.request_id)
    if each:
        _wake_relays(shared.options)
    crash_point("enqueue.after_insert")
    return [existing.get(place, outcome_id) for place, outcome_id in enumerate(ids)]


def _keys(
    shared: Call, each: Sequence[Arguments], texts: Sequence[tuple[str, str]], ids: Sequence[UUID]
) -> dict[int, Key]:
    """Return the keys of many calls by their places; a key maker may leave some without."""
    if shared.options.idempotency_key is None and shared.task.idempotency_key is None:
        return {}
    made = enumerate(calls.key_text(call) for call in _calls(shared, each))
    return {
        place: Key(shared.task_name, text, arguments.digest(*texts[place]), ids[place])
        for place, text in made
        if text is not None
    }


def _subjects_of_each(
    shared: Call, each: Sequence[Arguments], ids: Sequence[UUID]
) -> dict[UUID, tuple[subjects.Named, ...]]:
    """Return what each of many calls is about; empty where no call is about anything."""
    if shared.options.about is None and shared.task.about is None:
        return {}
    about = dict(zip(ids, map(calls.subjects_of, _calls(shared, each)), strict=True))
    return about if any(about.values()) else {}


def _calls(shared: Call, each: Iterable[Arguments]) -> Iterator[Call]:
    for args, kwargs in each:
        yield Call(shared.task_name, shared.task, args, kwargs, shared.options)


def _columns(
    row: Outcome,
    new: Sequence[int],
    ids: Sequence[UUID],
    texts: Sequence[tuple[str, str]],
    keys: Mapping[int, Key],
) -> dict[str, Sequence[Any]]:
    """Return what the new outcomes do not share, by attribute."""
    columns: dict[str, Sequence[Any]] = {
        "id": [ids[place] for place in new],
        "args_json": [texts[place][0] for place in new],
        "kwargs_json": [texts[place][1] for place in new],
    }
    if row.root_id == row.id:
        columns["root_id"] = columns["id"]
    if keys:
        found = map(keys.get, new)
        columns["idempotency_key"] = [None if key is None else key.text for key in found]
    return columns


def _wake_relays(options: CallOptions, outcome_id: UUID | None = None) -> None:
    if options.run_after is None and options.wakes:
        wake_relays_after_commit(outcome_id)


def _note_repeats(outcome_ids: Sequence[UUID], options: CallOptions) -> None:
    parent = context.lineage()
    parent_id = options.parent_id or (parent.outcome_id if parent else None)
    note_repeats(outcome_ids, context.request_id(), parent_id, calls.owner_id(options.owner))


def _insert_many(shared: Outcome, columns: Mapping[str, Sequence[Any]]) -> None:
    if not signals.enqueued.has_listeners():
        insert_copies(shared, columns)
        return
    for outcome in Outcome.objects.bulk_create(copies(shared, columns), batch_size=BATCH):
        signals.enqueued.send_robust(Outcome, outcome=outcome)


def replay(outcome: Outcome, task: TaskOptions, owner: Any = None) -> Outcome:
    """
    Enqueue a final outcome's call again, as a new outcome linked by `replay_of`.

    The key that the original passed to providers goes with it, so that an external effect that
    did happen is not repeated. The new outcome takes over the place in a group or chain.

    Raises:
        ValueError: the outcome is not final yet.
    """
    if not _has_ended(outcome):
        msg = f"{outcome} is {outcome.state}; only a final outcome can be replayed."
        raise ValueError(msg)
    return _surrounded(outcome.task_name, partial(_replay, outcome, task, owner))


def _replay(outcome: Outcome, task: TaskOptions, owner: Any) -> Outcome:
    options = CallOptions(
        queue=outcome.queue,
        priority=outcome.priority,
        owner=owner,
        root_id=outcome.root_id,
        parent_id=outcome.parent_id,
        group_id=outcome.group_id,
        group_index=outcome.group_index,
        replay_of=outcome,
        idempotency_key=outcome.idempotency_key or str(outcome.id),
    )
    call = Call(outcome.task_name, task, list(outcome.args), dict(outcome.kwargs), options)
    again = calls.build(call)
    again.options_json = outcome.options_json
    again.request_id = outcome.request_id
    with transaction.atomic(using=conf.DATABASE):
        key = calls.key_of(call, again)
        if key is not None:
            hand_over(key)
        _insert(again, own_id=False)
        if outcome.state == State.FAILED:
            Cause.objects.filter(pk=outcome.pk).update(replayed_at=DatabaseNow())
        subjects.copy(outcome.id, again.id)
    wake_relays_after_commit(again.id)
    context.note_enqueued(again.request_id)
    if signals.enqueued.has_listeners():
        signals.enqueued.send_robust(Outcome, outcome=again)
    return again


def _has_ended(outcome: Outcome) -> bool:
    """Tell whether an outcome is final; the row knows it where the instance does not yet."""
    if not outcome.is_final:
        outcome.refresh()
    return outcome.is_final


def _transaction(*, savepoint: bool) -> AbstractContextManager[Any]:
    """
    Return the caller's transaction, or a new one where there is none.

    Without a savepoint an error may leave a key without its outcome in the caller's transaction:
    such a key is free. What the caller may survive, a conflict, is raised before anything is
    written.
    """
    if connections[conf.DATABASE].in_atomic_block and not savepoint:
        return nullcontext()
    return transaction.atomic(using=conf.DATABASE)  # type: ignore[no-any-return]  # a gap of the stubs


def _insert(outcome: Outcome, *, own_id: bool) -> None:
    if not own_id:
        insert(outcome)
        return
    try:
        with transaction.atomic(using=conf.DATABASE):
            insert(outcome)
    except IntegrityError as error:
        msg = f"There is an outcome with id {outcome.id} already; let tasks_app choose the id."
        raise IdempotencyConflict(msg, outcome_id=outcome.id) from error
