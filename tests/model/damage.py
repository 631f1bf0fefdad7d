"""Mutants: the real code with one guard gone, which the machine has to tell from a sound one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

from django.db.models import F, QuerySet
from hypothesis import Phase
from hypothesis.internal.conjecture import engine

from tasks_app import outbox, outcomes, rescue
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.leases import Lease
from tasks_app.models import Outcome, Progress
from tasks_app.statements import Prepared, StateIs, update_one
from tasks_app.states import State
from tests.model.machine import Installation, explore

#: Examples in which a mutant has to be found; most are within the first thirty.
EXAMPLES = 400

#: Seconds for the search of the shortest history, of which Hypothesis would take five minutes.
SEARCH = 45

NEVER = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Mutant:
    """A guard that is gone: its name, and what takes it away for a block."""

    name: str
    damage: Callable[[ExitStack], None]

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            self.damage(stack)
            yield


@dataclass(frozen=True)
class Finding:
    """How a mutant was found: after how many steps in all, and in a history of how many."""

    steps: int
    examples: int
    original: int
    shortest: int
    error: BaseException


def find(mutant: Mutant, *, shrink: bool = False) -> Finding | None:
    """Return how the machine found a mutant; None where it did not."""
    Installation.steps_taken, Installation.examples, Installation.failures = 0, 0, []
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    search = patch.object(engine, "MAX_SHRINKING_SECONDS", SEARCH)
    with mutant.applied(), search, contextlib.redirect_stdout(None):
        try:
            # A mutant's stories are not kept: the sound installation need not go through them.
            explore(max_examples=EXAMPLES, phases=phases, database=None)
        except Exception as error:  # noqa: BLE001 - whatever the damage leads to is its finding
            found = error
        else:
            return None
    (steps, examples, original), *_ = Installation.failures
    return Finding(steps, examples, original, Installation.failures[-1][2], found)


def _guard_by_id_only(stack: ExitStack) -> None:
    """A run ends whatever its row has become."""
    _loosen(stack, lambda outcome_id: Outcome.objects.filter(pk=outcome_id))


def _guard_by_state_only(stack: ExitStack) -> None:
    """A run ends whatever run its row is in."""
    _loosen(stack, lambda outcome_id: Outcome.objects.filter(StateIs(State.RUNNING), pk=outcome_id))


def _loosen(stack: ExitStack, rows: Callable[[Any], QuerySet[Outcome]]) -> None:
    def success(*progress: str) -> Prepared:
        sound = sound_success(*progress)
        return Prepared(rows(outcomes._slot("id")), sound.values, sound.follows)

    sound_success = outcomes._success
    stack.enter_context(patch.object(outcomes, "_success", success))
    stack.enter_context(patch.object(outcomes, "_held", lambda lease: rows(lease.outcome_id)))


def _no_rescue(stack: ExitStack) -> None:
    """Nobody looks for orphans."""
    stack.enter_context(patch.object(rescue, "run_once", lambda: 0))


def _announced_for_good(stack: ExitStack) -> None:
    """What was announced once does not come due again."""

    def never_again(ids: list[UUID]) -> None:
        rows = Outcome.objects.filter(StateIs(State.PENDING), pk__in=ids)
        rows.update(announce_at=NEVER, announced=F("announced") + 1)

    stack.enter_context(patch.object(outbox, "_move_ahead", never_again))


def _cursor_by_id(stack: ExitStack) -> None:
    """The relay takes no row that lies before the last one it took."""
    last = UUID(int=0)
    sound = outbox._candidates

    def beyond_the_last(queue: str, room: int) -> list[UUID]:
        nonlocal last
        ids = [pk for pk in sound(queue, room) if pk > last]
        last = max([last, *ids])
        return ids

    stack.enter_context(patch.object(outbox, "_candidates", beyond_the_last))


def _renewal_without_fence(stack: ExitStack) -> None:
    """A run extends the lease of whoever runs the outcome now."""

    def renew(lease: Lease, progress: Progress | None = None) -> bool:
        rows = Outcome.objects.filter(StateIs(State.RUNNING), pk=lease.outcome_id)
        return update_one(rows, lease_until=DatabaseNow() + conf.LEASE)

    stack.enter_context(patch.object(outcomes, "renew", renew))


MUTANTS = (
    Mutant("guard by id only", _guard_by_id_only),
    Mutant("guard by state only", _guard_by_state_only),
    Mutant("no rescue", _no_rescue),
    Mutant("announced for good", _announced_for_good),
    Mutant("relay cursor by id", _cursor_by_id),
    Mutant("renewal without fence", _renewal_without_fence),
)
