"""Beat's scheduler, ticked by hand on the real database: what it decides, and who does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django_celery_beat.models import ClockedSchedule, PeriodicTask, PeriodicTasks

from tasks_app import outcomes
from tasks_app.models import Outcome, Slot, Timer
from tasks_app.periodic import slots
from tests.periodic.beats import (
    beat,
    come_due,
    decided,
    depose,
    entry,
    every,
    minutes_ago,
    texts,
)
from tests.testapp.tasks import add, record_once

pytestmark = pytest.mark.django_db

#: For what acts on other connections too, or closes its own.
COMMITTING = pytest.mark.django_db(transaction=True)


def end(outcome_id):
    """End an outcome that waits."""
    assert outcomes.cancel(outcome_id)


def test_a_due_slot_becomes_one_outcome():
    """Its row names the outcome, whose call and key are the entry's and the slot's."""
    row = entry(queue="q", priority=9)
    slot_at = come_due(row)
    beat().tick()
    assert decided(row) == [(slot_at, "fired")]
    outcome = Outcome.objects.get(pk=Slot.objects.get().outcome_id)
    assert (outcome.task_name, outcome.args, outcome.queue) == (add.name, [2, 3], "q")
    assert outcome.priority == 9
    assert outcome.idempotency_key == f"sum@{slot_at.isoformat()}"
    row.refresh_from_db()
    assert row.total_run_count == 1
    assert row.last_run_at is not None


def test_a_decided_slot_is_not_decided_again():
    """Later ticks wait for the next one."""
    row = entry()
    come_due(row)
    ticking = beat()
    assert [ticking.tick(), ticking.tick() > 0] == [0.0, True]
    assert Outcome.objects.count() == 1
    assert Timer.objects.get(pk=row.pk).next_at > datetime.now(UTC)


@COMMITTING
def test_of_two_beats_one_leads():
    """The other takes over once the first one is silent for its lease, or resigns."""
    row = entry()
    first, second = beat(), beat()
    first.tick()
    come_due(row)
    assert second.tick() > 0
    assert decided(row) == []
    first.close()
    second.tick()
    assert len(decided(row)) == 1


def test_two_that_believe_they_lead_decide_a_slot_once():
    """One that slept wakes up with what it had planned, and finds the slot decided."""
    row = entry()
    slot_at = come_due(row)
    asleep = Timer.objects.get(pk=row.pk)
    beat().tick()
    planned = slots.Planned(slot_at, slots.Decision.FIRED)
    assert slots.decide(asleep, planned, row) is None
    assert Outcome.objects.count() == Slot.objects.count() == 1
    depose()
    Timer.objects.filter(pk=row.pk).update(next_at=slot_at, due_at=slot_at)
    beat().tick()
    assert Outcome.objects.count() == Slot.objects.count() == 1
    assert Timer.objects.get(pk=row.pk).next_at > slot_at


@COMMITTING
def test_a_database_that_is_away_is_waited_for(caplog):
    """Beat says so once, and decides when it is back what came due meanwhile."""
    caplog.set_level("INFO", "tasks_app")
    row, ticking = entry(), beat()
    ticking.tick()
    slot_at = come_due(row)

    def refuse(execute, *args):
        raise OperationalError("gone")

    with connection.execute_wrapper(refuse):
        assert ticking.tick() > 0
        assert ticking.tick() > 0
    ticking.tick()
    assert decided(row) == [(slot_at, "fired")]
    told = [record.message for record in caplog.records if "database" in record.message]
    assert told == ["beat lost its database; waiting: gone", "beat has its database back"]


@pytest.mark.parametrize(
    ("policy", "made_up"),
    [
        ({"missed": "skip"}, 0),
        ({"missed": "latest"}, 1),
        ({"missed": "all"}, 99),
        ({"missed": "all", "missed_max": 2}, 2),
    ],
)
def test_slots_missed_while_no_beat_ran_follow_the_policy(policy, made_up):
    """Each is told; the newest of the late ones are made up, in the order of their times."""
    row = entry()
    come_due(row, minutes_ago(5), **policy)
    beat().tick()
    found = [decision for _, decision in decided(row)]
    late = len(found) - 1
    left_out = max(late - made_up, 0)
    assert late >= 5
    assert found == ["missed"] * left_out + ["made_up"] * (late - left_out) + ["fired"]
    assert Outcome.objects.count() == len(found) - left_out
    made = Outcome.objects.order_by("created_at", "id").values_list("idempotency_key", flat=True)
    assert list(made) == sorted(made)


def test_skip_leaves_out_a_slot_while_the_last_run_goes_on():
    """It fires again after the end of that run."""
    row, ticking = entry(), beat()
    come_due(row, minutes_ago(1), overlap="skip")
    ticking.tick()
    come_due(row)
    ticking.tick()
    assert decided(row)[-1][1] == "overlapped"
    end(Outcome.objects.get().pk)
    slot = slots.run_now(row, "somebody")
    assert slot.outcome_id is not None


def test_queue_one_lets_one_slot_wait_for_the_last_run():
    """Others are left out; the one that waits is enqueued once that run has ended."""
    row, ticking = entry(), beat()
    come_due(row, minutes_ago(0), overlap="queue_one")
    ticking.tick()
    first = Outcome.objects.get()
    timer = Timer.objects.get(pk=row.pk)
    waiting_at, left_out_at = timer.next_at, timer.next_at + timedelta(minutes=1)
    for slot_at in (waiting_at, left_out_at):
        timer = Timer.objects.get(pk=row.pk)
        slots.decide(timer, slots.Planned(slot_at, slots.Decision.FIRED), row)
    assert [decision for _, decision in decided(row)] == ["fired", "queued", "overlapped"]
    Timer.objects.filter(pk=row.pk).update(due_at=minutes_ago(1))
    ticking.tick()
    assert Outcome.objects.count() == 1
    end(first.pk)
    Timer.objects.filter(pk=row.pk).update(due_at=minutes_ago(1))
    ticking.tick()
    waited = Outcome.objects.exclude(pk=first.pk).get()
    assert Slot.objects.get(slot_at=waiting_at).outcome_id == waited.pk
    assert Timer.objects.get(pk=row.pk).waiting_at is None


def test_a_paused_entry_lets_its_slots_pass():
    """Resumed, it goes on with the slots to come: those of the pause are not missed."""
    row, ticking = entry(), beat()
    come_due(row, minutes_ago(3))
    slots.pause(row, "somebody")
    ticking.tick()
    assert slots.upcoming(row) == []
    slots.resume(row, "somebody")
    ticking.tick()
    assert decided(row) == []
    assert Timer.objects.get(pk=row.pk).next_at == slots.upcoming(row)[0]


def test_a_run_by_hand_is_a_slot_of_its_own():
    """It tells who asked, and the timetable goes on beside it."""
    row = entry()
    first, second = slots.run_now(row, "ada"), slots.run_now(row, "ada")
    assert {first.decision, second.decision} == {"by_hand"}
    assert first.slot_at != second.slot_at
    assert first.asked_by == "ada"
    assert Outcome.objects.get(pk=first.outcome_id).args == [2, 3]


def test_a_backfill_runs_what_enqueued_nothing():
    """Missed slots and those that nobody decided; asked again, it does nothing."""
    row = entry()
    come_due(row, minutes_ago(4), missed="skip")
    beat().tick()
    asked = minutes_ago(8), minutes_ago(3)
    assert slots.backfill(row, *asked, by="ada") == 6
    assert slots.backfill(row, *asked, by="ada") == 0
    assert [decision for _, decision in decided(row)][:6] == ["backfilled"] * 6
    assert Slot.objects.filter(asked_by="ada").count() == 6


def test_a_backfill_is_bounded():
    """A range with too many slots is refused before anything is enqueued."""
    row = entry()
    with pytest.raises(ValueError, match="more than 1,000 slots"):
        slots.backfill(row, minutes_ago(2_000), minutes_ago(0), by="ada")
    assert not Slot.objects.exists()


def test_a_slot_that_was_backfilled_before_its_time_was_decided_is_left():
    """The scheduler goes on behind it."""
    row = entry()
    slot_at = come_due(row)
    slots.backfill(row, slot_at, slot_at, by="ada")
    beat().tick()
    assert decided(row) == [(slot_at, "backfilled")]
    assert Timer.objects.get(pk=row.pk).next_at > slot_at


def test_a_one_off_fires_once_and_is_switched_off():
    """Switched on again, it fires once more; a run by hand leaves it on."""
    row, ticking = entry(one_off=True), beat()
    slots.run_now(row, "ada")
    for fired in (1, 2):
        come_due(row, minutes_ago(3 - fired))
        ticking.tick()
        ticking.tick()
        row.refresh_from_db()
        assert row.enabled is False
        assert Outcome.objects.count() == fired + 1
        row.enabled = True
        row.save()


def test_a_clocked_entry_fires_at_its_time():
    """Once, also when no beat ran then, within its policy's patience."""
    clocked = ClockedSchedule.objects.create(clocked_time=minutes_ago(0))
    row = entry(clocked=clocked, one_off=True)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=minutes_ago(1))
    ticking = beat()
    ticking.tick()
    ticking.tick()
    assert decided(row) == [(clocked.clocked_time, "fired")]


def test_nothing_fires_before_the_start_nor_after_the_expiry():
    """Both are the entry's own columns."""
    later, earlier = datetime.now(UTC) + timedelta(hours=1), minutes_ago(1)
    future = entry("future", start_time=later)
    past = entry("past", expires=earlier)
    beat().tick()
    assert Timer.objects.get(pk=future.pk).next_at >= later
    assert Timer.objects.get(pk=past.pk).next_at is None


def test_a_call_that_waits_expires_with_the_next_slot():
    """Unless each one counts: those that are made up do not expire by it."""
    row = entry(interval=every(hours=1))
    come_due(row, datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    beat().tick()
    slot, outcome = Slot.objects.get(), Outcome.objects.get()
    following = Timer.objects.get(pk=row.pk).next_at
    assert outcome.expires_at == (following if slot.decision == "fired" else None)


def test_a_declared_key_stays_the_tasks_own():
    """The slot is the key of tasks that declare none."""
    row = entry(task=record_once.name, **texts(args=["k"]))
    slots.run_now(row, "")
    slots.run_now(row, "")
    assert Outcome.objects.get().idempotency_key == "record:k"


def test_what_cannot_be_enqueued_stops_no_other(caplog):
    """It is told, and tried again a little later."""
    broken = entry("broken", **texts(args=["too", "many", "arguments"]))
    sound = entry("sound")
    for row in (broken, sound):
        come_due(row)
    beat().tick()
    assert (len(decided(broken)), len(decided(sound))) == (0, 1)
    assert "The schedule broken stumbled" in caplog.text
    assert Timer.objects.get(pk=broken.pk).due_at > datetime.now(UTC)


def test_changes_in_the_admin_are_noticed():
    """A new entry, another timetable, one that is switched off, one that is deleted."""
    ticking = beat()
    ticking.tick()
    row = entry(interval=every(hours=1))
    look_again(ticking)
    before = Timer.objects.get(pk=row.pk).next_at
    row.interval = every(days=20)
    row.save()
    look_again(ticking)
    assert Timer.objects.get(pk=row.pk).next_at > before
    row.enabled = False
    row.save()
    look_again(ticking)
    assert Timer.objects.get(pk=row.pk).next_at is None
    row.delete()
    look_again(ticking)
    assert not Timer.objects.filter(name="sum").exists()


def look_again(ticking):
    """Tick once more, later than changes are looked for."""
    ticking._noticed_at = float("-inf")
    PeriodicTasks.update_changed()
    ticking.tick()
