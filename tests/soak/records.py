"""What a run leaves behind, read for its judges: rows, effects, trails, calls and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from tasks_app.models import Outcome
from tests import trail
from tests.history import client, log
from tests.history.checker import OutsideCall, check
from tests.history.client import Call
from tests.soak import tasks
from tests.soak.settings import SHORT_TIMES
from tests.soak.verdict import BULK, Facts, Row, promised_by
from tests.testapp.models import Effect

EXTERNAL = frozenset({tasks.external.name})


@dataclass(frozen=True)
class EffectOfRun:
    """An effect in the database, by what its note says."""

    outcome_id: UUID | None
    fence: int | None

    @classmethod
    def of(cls, note: str) -> EffectOfRun:
        """Read a note that `helpers.take_effect` wrote."""
        outcome_id, _, fence = note.partition("#")
        return cls(UUID(outcome_id), int(fence))


def facts(folder: Path) -> Facts:
    """Read all that the soak's own judge wants to know."""
    return Facts(
        rows={row.id: row for row in rows()},
        calls=client.read(sorted(folder.glob("*.calls"))),
        effects=Counter(Effect.objects.values_list("key", flat=True)),
        trails={path.stem: trail.left(path.stem) for path in folder.glob("*.trail")},
        max_crashes=SHORT_TIMES["MAX_CRASHES"],
    )


def rows() -> Iterator[Row]:
    """Yield every outcome."""
    ended = {
        ending: Count("attempts", filter=Q(attempts__state=ending))
        for ending in ("lost", "succeeded")
    }
    counted = Outcome.objects.annotate(was_lost=ended["lost"], has_succeeded=ended["succeeded"])
    for outcome in counted.iterator():
        yield Row(
            id=outcome.pk,
            task=outcome.task_name,
            key=outcome.args[0],
            state=outcome.state,
            reason=outcome.reason,
            crashes=outcome.crashes,
            lost=outcome.was_lost,
            succeeded=outcome.has_succeeded,
        )


def violations(known: Facts) -> list[str]:
    """Let the checker of histories judge the course of every outcome."""
    notes = Effect.objects.values_list("note", flat=True)
    found = check(
        log.events(),
        single_calls(known.calls),
        [EffectOfRun.of(note) for note in notes],
        outside_calls(known.trails),
        db_tasks={row.task for row in known.rows.values()} - EXTERNAL,
        external_tasks=EXTERNAL,
        healed=True,
    )
    return [str(violation) for violation in found]


def course(outcome_id: UUID) -> list[str]:
    """Tell each change of an outcome in a line, in seconds from the first one."""
    found = []
    began = None
    for event in log.Event.objects.filter(outcome_id=outcome_id).order_by("seq"):
        began = began or event.at
        seconds = (event.at - began).total_seconds()
        found.append(f"{seconds:7.2f} {event.to_state}#{event.to_fence} {event.worker}")
    return found


def single_calls(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield the calls as the checker knows them: a bulk call is as many as it has arguments."""
    for call in calls:
        if call.op != "enqueue_many":
            yield call
        elif promised := promised_by(call):
            for outcome_id in promised:
                yield replace(call, op="enqueue", outcome_id=outcome_id)
        else:
            yield from [replace(call, op="enqueue")] * BULK


def outside_calls(trails: Mapping[str, list[dict[str, Any]]]) -> Iterator[OutsideCall]:
    """Yield what providers were sent."""
    for lines in trails.values():
        for line in lines:
            if "provider_key" in line:
                yield OutsideCall(UUID(line["outcome"]), line["provider_key"])
