"""The app's own upkeep: by whoever comes first, once in its time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from tasks_app.models import Leadership, Outcome, Slot
from tasks_app.periodic import slots, upkeep
from tests.periodic.beats import entry
from tests.races.two import at_once
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)


def an_old_outcome():
    """Make an outcome that ended long ago."""
    outcome = add.enqueue(1, 2)
    outcome.cancel()
    Outcome.objects.filter(pk=outcome.pk).update(finished_at=timezone.now() - timedelta(days=999))


def test_what_is_old_is_pruned_once_a_day():
    """By one of two who look at the same moment; the next day by whoever looks."""
    for _ in range(2):
        an_old_outcome()
        assert sorted(at_once(*[lambda: upkeep.do("prune") or 0] * 2)) == [0, 1]
        an_old_outcome()
        assert upkeep.do("prune") is None
        Leadership.objects.update(until=F("until") - timedelta(days=1))
        assert upkeep.do("prune") == 1
        Leadership.objects.update(until=F("until") - timedelta(days=1))


def test_pruning_can_be_left_to_others(settings):
    """A setting switches it off."""
    settings.TASKS_APP = {**settings.TASKS_APP, "PRUNE_DAILY": False}
    an_old_outcome()
    assert upkeep.do("prune") is None
    assert Outcome.objects.count() == 1


def test_slots_go_with_their_outcomes():
    """Those that wait for a run to end stay, however long that takes."""
    old, kept = (slots.run_now(entry(name), "ada") for name in ("old", "kept"))
    Slot.objects.update(decided_at=timezone.now() - timedelta(days=9999))
    Slot.objects.filter(pk=kept.pk).update(decision="queued", outcome_id=None)
    upkeep.do("prune")
    assert list(Slot.objects.values_list("pk", flat=True)) == [kept.pk]
    assert old.pk != kept.pk
