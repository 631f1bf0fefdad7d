"""Beats that act at the same moment, each on a connection of its own."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db.models import F

from tasks_app.models import Leadership, Outcome, Slot, Timer
from tasks_app.periodic import slots
from tasks_app.periodic.leadership import LEASE, Leader
from tasks_app.periodic.slots import Decision, Planned
from tests.periodic.beats import beat, come_due, decided, depose, entry
from tests.races.two import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_schedulers_that_tick_at_once_make_one_slot():
    """Whoever leads; and also when both believe it."""
    row = entry()
    slot_at = come_due(row)
    beats = beat(), beat()
    at_once(*(each.tick for each in beats))
    assert decided(row) == [(slot_at, "fired")]
    assert Outcome.objects.count() == 1


def test_two_that_decide_one_slot_at_once_make_it_once():
    """The guard needs no leader: each of them acts on the same view of the timer."""
    row = entry()
    for minute in range(5):
        slot_at = come_due(row) - timedelta(minutes=minute)
        come_due(row, slot_at)
        views = [Timer.objects.get(pk=row.pk) for _ in range(2)]
        planned = Planned(slot_at, Decision.FIRED)
        acts = [partial(slots.decide, view, planned, row) for view in views]
        made = at_once(*acts)
        assert sum(slot is not None for slot in made) == 1
    assert Slot.objects.count() == Outcome.objects.count() == 5


def test_a_slot_that_is_asked_for_as_it_comes_due_is_made_once():
    """Somebody backfills it while the scheduler decides it: one of both is first."""
    row = entry()
    slot_at = come_due(row)
    view, planned = Timer.objects.get(pk=row.pk), Planned(slot_at, Decision.FIRED)
    at_once(
        lambda: slots.decide(view, planned, row),
        lambda: slots.backfill(row, slot_at, slot_at, by="ada"),
    )
    assert Slot.objects.count() == Outcome.objects.count() == 1
    assert Timer.objects.get(pk=row.pk).next_at > slot_at


def test_of_many_candidates_one_leads():
    """Also when the leader's time has just run out for all of them."""
    candidates = [Leader("beat") for _ in range(4)]
    for _ in range(3):
        depose()
        assert sum(at_once(*(each.lead for each in candidates))) == 1


def test_a_leader_that_is_silent_is_followed_within_its_lease():
    """Its own word afterwards does nothing; the database's clock decides."""
    first, second = Leader("beat"), Leader("beat")
    assert first.lead()
    assert not second.lead()
    assert 1 < second.vacant_in <= LEASE.total_seconds()
    Leadership.objects.update(until=F("until") - LEASE)
    assert second.lead()
    assert not first.lead()
    first.resign()
    assert second.lead()
    second.resign()
    assert first.lead()
