"""
Canvas over outcomes: callbacks, chains, groups and chords.

What follows an outcome is enqueued in the transaction that ends it, so it can be neither lost nor
doubled, however often a doorbell rings or a member is rescued or replayed. Celery expands the
signatures; only their delivery is ours.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID, uuid5

from celery import current_app
from celery.canvas import Signature, maybe_signature
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F
from kombu.utils.json import dumps, loads

from tasks_app import context, outcomes
from tasks_app.broker import call_options
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.context import Lineage
from tasks_app.models import Chord, Outcome, outcome_uuid
from tasks_app.states import Reason, State

logger = logging.getLogger(__name__)

CANVAS_OPTIONS = ("link", "link_error", "chain", "chord")


def kept_canvas(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row keeps of the canvas around its call, as plain JSON values."""
    kept = {name: options.get(name) for name in CANVAS_OPTIONS if options.get(name)}
    for name in ("link", "link_error"):
        if name in kept and not isinstance(kept[name], list | tuple):
            kept[name] = [kept[name]]
    return json.loads(dumps(kept)) if kept else {}


def on_success(outcome: Outcome, result: Any, omitted: str) -> None:
    """Enqueue what follows a success; in the transaction that wrote it."""
    options = call_options(outcome)
    for position, callback in enumerate(options.get("link") or ()):
        _follow(outcome, callback, result, omitted, place=f"link.{position}")
    rest = options.get("chain")
    if rest:
        _follow(outcome, rest[-1], result, omitted, place="chain", chain=rest[:-1])
    if outcome.group_id and options.get("chord"):
        _count_member(outcome)


def on_failure(outcome: Outcome, error: str) -> None:
    """Enqueue the errbacks of a failure and fail the chord it was part of; same transaction."""
    options = call_options(outcome)
    for position, errback in enumerate(options.get("link_error") or ()):
        place = f"link_error.{position}"
        with _at_any_rate(outcome, place):
            _apply(outcome, errback, (str(outcome.id),), place=place)
    if outcome.group_id and options.get("chord"):
        with _at_any_rate(outcome, "chord"):
            _fail_chord(outcome, error)


@contextmanager
def _at_any_rate(outcome: Outcome, place: str) -> Iterator[None]:
    """
    Let a failure be written even if what follows it cannot be enqueued.

    A row that could not end would be rescued for ever, and stop the rescue of all others.
    """
    try:
        with transaction.atomic(using=conf.DATABASE):
            yield
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:  # noqa: BLE001 - a signature may be anything
        logger.error("%s of %s cannot be enqueued: %s", place, outcome, type(error).__name__)  # noqa: TRY400 - what it says may hold arguments


def follower_places(outcome: Outcome) -> dict[UUID, str]:
    """
    Return where each outcome that may follow this one stands, by the id that it would have.

    Places are `chain`, `chord`, `link.0`, `link_error.0` and so on.
    """
    options = call_options(outcome)
    canvas = {"chain": (options.get("chain") or ())[-1:], "chord": [options.get("chord")]}
    followers = [(place, signature) for place, found in canvas.items() for signature in found]
    for name in ("link", "link_error"):
        numbered = enumerate(options.get(name) or ())
        followers += [(f"{name}.{position}", signature) for position, signature in numbered]
    places = {}
    for place, signature in followers:
        if signature:
            places[uuid5(outcome.id, place)] = place
            frozen = outcome_uuid((signature.get("options") or {}).get("task_id"))
            if frozen is not None:
                places[frozen] = place
    return places


def open_chord(group_id: str, size: int, body: Signature) -> None:
    """Record a chord before its header is enqueued, in the caller's transaction."""
    Chord.objects.get_or_create(id=group_id, defaults={"size": size, "body_json": dumps(body)})


def resize_chord(group_id: str, size: int) -> None:
    """Correct the number of members, once Celery has expanded the header."""
    Chord.objects.filter(pk=group_id, finished_at__isnull=True).update(size=size)


def _follow(
    outcome: Outcome, callback: Any, result: Any, omitted: str, *, place: str, **options: Any
) -> None:
    signature = _signature(callback)
    if not omitted or signature.immutable:
        _apply(outcome, signature, (result,), place=place, **options)
        return
    follower = _apply(outcome, signature, (None,), place=place, **options)
    error = f"The result of {outcome} was not stored ({omitted}), so there is nothing to pass on."
    _give_up(follower, error)


def _apply(
    outcome: Outcome, callback: Any, args: tuple[Any, ...], *, place: str, **options: Any
) -> Any:
    """Apply a signature as a child of the outcome; plain Celery tasks follow after the commit."""
    signature = _signature(callback)
    options.update(
        task_id=_free_id(outcome, signature, place),
        root_id=str(outcome.root_id),
        parent_id=str(outcome.id),
    )

    def apply() -> Any:
        # A rescuer or an operator may be the one who ends the outcome: the ids are the outcome's.
        with context.working_for(outcome.request_id, Lineage.of(outcome)):
            return signature.apply_async(args, **options)

    return _now_or_after_commit(signature, apply)


def _free_id(outcome: Outcome, signature: Signature, place: str) -> str:
    """Return the id that the caller's result already knows, unless an earlier run used it up."""
    frozen = signature.options.get("task_id")
    if frozen is None:
        return str(uuid5(outcome.id, place))
    is_used = outcome.replay_of_id is not None and Outcome.objects.filter(pk=frozen).exists()
    return str(uuid5(outcome.id, place)) if is_used else str(frozen)


def _now_or_after_commit(signature: Signature, apply: Callable[[], Any]) -> Any:
    task = current_app.tasks.get(str(signature.task))
    if task is not None and not task.name.startswith("celery.") and not hasattr(task, "helper"):
        transaction.on_commit(apply, using=conf.DATABASE)
        return None
    return apply()


def _signature(callback: Any) -> Signature:
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # it is a proxy
    return cast("Signature", maybe_signature(callback, app=app))


def _give_up(follower: Any, error: str) -> None:
    follower_id = outcome_uuid(getattr(follower, "id", ""))
    if follower_id is not None and outcomes.give_up(follower_id, Reason.NOT_RETRYABLE, error):
        on_failure(Outcome.objects.get(pk=follower_id), error)


def _count_member(outcome: Outcome) -> None:
    # The counter's row lock makes members finish one by one; the last one sees all the others.
    if not Chord.objects.filter(pk=outcome.group_id).update(succeeded=F("succeeded") + 1):
        return
    chord = Chord.objects.get(pk=outcome.group_id)
    if chord.succeeded < chord.size:
        return
    members = _succeeded_members(chord)
    if len(members) < chord.size:
        return
    if Chord.objects.filter(pk=chord.pk, finished_at__isnull=True).update(
        finished_at=DatabaseNow()
    ):
        _start_body(outcome, chord, [member.result for member in members])


def _succeeded_members(chord: Chord) -> list[Outcome]:
    """Return one succeeded outcome for each place of the group, in order."""
    rows = Outcome.objects.filter(group_id=chord.pk, state=State.SUCCEEDED).order_by(
        "group_index", "id"
    )
    return list({row.group_index: row for row in rows}.values())


def _start_body(outcome: Outcome, chord: Chord, results: list[Any]) -> None:
    body = _signature(loads(chord.body_json))
    body_id = outcome_uuid(body.options.get("task_id"))
    if body_id is not None and Outcome.objects.filter(pk=body_id).exists():
        # A member's failure ended the callback; now that every place is filled, it runs anew.
        body = body.clone()
        del body.options["task_id"]
    _apply(outcome, body, (results,), place="chord")


def _fail_chord(outcome: Outcome, error: str) -> None:
    chord = Chord.objects.filter(pk=outcome.group_id).first()
    if chord is None:
        return
    body = _signature(loads(chord.body_json))
    body_id = outcome_uuid(body.options.get("task_id"))
    if body_id is None or Outcome.objects.filter(pk=body_id).exists():
        return
    follower = _apply(outcome, body, (None,), place="chord")
    _give_up(follower, f"Member {outcome} of the chord failed: {error}")
