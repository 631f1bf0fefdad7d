"""
Promise 10: each slot of a schedule leads to one outcome, with one beat or three, killed or not.

Beats that are really killed, three of them: `tests/periodic/test_killed_beats.py`.
"""

from __future__ import annotations

import pytest
from django.db import OperationalError

from tasks_app.models import Outcome, Slot, Timer
from tasks_app.periodic import slots
from tasks_app.periodic.slots import Decision, Planned
from tests.periodic.beats import beat, come_due, decided, depose, entry, minutes_ago
from tests.periodic.conftest import (  # noqa: F401 - fixtures that all here use
    amid_a_minute,
    nothing_declared,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_beat_that_dies_before_its_commit_leaves_nothing_behind(monkeypatch):
    """Neither slot nor outcome nor a timer that has moved on; the next one decides it."""
    row = entry()
    slot_at = come_due(row)

    def die(point):
        raise OperationalError(point)

    with monkeypatch.context() as patched:
        patched.setattr(slots, "crash_point", die)
        beat().tick()
    assert not Slot.objects.exists()
    assert not Outcome.objects.exists()
    assert Timer.objects.get(pk=row.pk).next_at == slot_at
    depose()
    beat().tick()
    assert decided(row) == [(slot_at, "fired")]
    assert Outcome.objects.count() == 1


def test_a_request_to_end_is_not_lost_where_undoing_fails(monkeypatch):
    """A signal raises it amid a statement, whose transaction may then be beyond help."""
    come_due(entry())

    def end(point):
        error = OperationalError("the connection is in no state to roll back")
        error.__context__ = SystemExit()
        raise error

    monkeypatch.setattr(slots, "crash_point", end)
    with pytest.raises(SystemExit):
        beat().tick()
    assert not Slot.objects.exists()


def test_a_slot_that_is_decided_is_decided():
    """Whoever comes later is told so, and the timer stays where it is."""
    row = entry()
    slot_at = come_due(row)
    view, planned = Timer.objects.get(pk=row.pk), Planned(slot_at, Decision.FIRED)
    assert slots.backfill(row, slot_at, slot_at, by="ada") == 1
    assert slots.decide(view, planned, row) is None
    assert decided(row) == [(slot_at, "backfilled")]
    assert Outcome.objects.count() == 1


def test_a_beat_that_wakes_up_late_does_not_turn_the_timer_back():
    """It acts on the timer as it was before another beat led."""
    row = entry()
    slot_at = come_due(row, minutes_ago(1))
    asleep, planned = Timer.objects.get(pk=row.pk), Planned(slot_at, Decision.FIRED)
    beat().tick()
    Slot.objects.filter(slot_at=slot_at).delete()
    before = Timer.objects.get(pk=row.pk).next_at
    assert slots.decide(asleep, planned, row) is None
    assert Timer.objects.get(pk=row.pk).next_at == before


def test_slots_missed_without_a_beat_are_told():
    """Under `all`, each leads to an outcome."""
    row = entry()
    come_due(row, minutes_ago(5), missed="all")
    beat().tick()
    assert len(decided(row)) >= 6
    assert Outcome.objects.count() == len(decided(row))
