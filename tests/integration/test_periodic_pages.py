"""The pages of periodic jobs: what they tell of entries and slots, and what their buttons do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from tasks_app import outcomes, stock
from tasks_app.models import Outcome, Slot, Stock, Timer
from tests import by_hand
from tests.testapp.tasks import add
from tests.visitors import entered

pytestmark = pytest.mark.django_db

#: Where the entries' clocks are.
BERLIN = ZoneInfo("Europe/Berlin")

OK, FOUND, BAD, FORBIDDEN, MISSING = 200, 302, 400, 403, 404

#: Statements of the page itself; beside them are the session, the user and his permissions.
STATEMENTS = {"periodic": 6, "schedule": 5}


@pytest.fixture(autouse=True)
def nothing_declared():
    """Leave out the entries that the installed projects declare."""
    PeriodicTask.objects.all().delete()
    Timer.objects.all().delete()


def entry_named(name, **timer):
    """Make an entry of each hour in Berlin, with a timer."""
    when, _ = CrontabSchedule.objects.get_or_create(minute="0", timezone="Europe/Berlin")
    entry = PeriodicTask.objects.create(name=name, task=add.name, crontab=when, args="[1, 2]")
    Timer.objects.create(entry_id=entry.pk, name=name, timetable_hash="known", **timer)
    return entry


def decided(entry, decision, hours, outcome=None, late=timedelta(seconds=1), **fields):
    """Write a slot of some hours ago."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    slot_at = now - timedelta(hours=hours)
    return Slot.objects.create(
        entry_id=entry.pk,
        slot_at=slot_at,
        name=entry.name,
        decision=decision,
        outcome_id=outcome and outcome.pk,
        decided_at=slot_at + late,
        **fields,
    )


def answered():
    """Return an outcome that has succeeded."""
    outcome = add.enqueue(1, 2)
    by_hand.answer(outcome)
    return outcome


def page(client, **query):
    response = client.get(reverse("admin:tasks_app_periodic"), query)
    assert response.status_code == OK
    return response.content.decode()


def about(client, entry, **query):
    response = client.get(reverse("admin:tasks_app_schedule", args=[entry.pk]), query)
    assert response.status_code == OK
    return response.content.decode()


def rows(text):
    """Return the texts of the cells of a page's rows, by what stands in their head."""
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL):
        head, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        found[words(head)] = [words(cell) for cell in cells]
    return found


def words(html):
    return " ".join(re.sub(r"<title>.*?</title>|<[^>]+>", " ", html).split())


def test_each_entry_tells_where_it_comes_from_and_when_it_is_due():
    """Declared in code, changed in the admin, by hand, paused: each has its badge."""
    next_at = timezone.now() + timedelta(hours=1)
    entry_named("by hand", next_at=next_at)
    entry_named("nightly", code_name="nightly", next_at=next_at)
    paused = entry_named("resting", code_name="resting")
    PeriodicTask.objects.filter(pk=paused.pk).update(enabled=False)
    found = rows(page(entered()))
    assert found["by hand made in the admin"][1] == f"{next_at:%Y-%m-%d %H:%M:%S}"
    assert "nightly declared in code" in found
    assert found["resting declared in code ■ paused"][1] == "none: it is paused"


def test_slots_that_were_missed_late_or_made_up_are_marked():
    """Counted among the newest; what a hand asked for is never late."""
    entry = entry_named("nightly")
    decided(entry, "missed", 5, late=timedelta(hours=3))
    decided(entry, "missed", 4, late=timedelta(hours=2))
    decided(entry, "made_up", 3, answered(), late=timedelta(hours=1))
    decided(entry, "fired", 2, answered(), late=timedelta(minutes=2))
    decided(entry, "by_hand", 1, answered(), late=timedelta(minutes=9))
    (cells,) = [cells for head, cells in rows(page(entered())).items() if "nightly" in head]
    assert cells[3] == "2 missed 1 made up 2 late"
    assert cells[4] == "0 minutes ago"


def test_the_bars_say_in_words_what_they_show():
    """For those who do not see them."""
    entry = entry_named("nightly")
    decided(entry, "missed", 3)
    decided(entry, "fired", 2, answered())
    decided(entry, "fired", 1, add.enqueue(1, 2))
    told = "Newest slots: 1 missed, 1 succeeded, 1 pending; the last one: pending"
    assert f'aria-label="{told}"' in page(entered())


def test_jitter_is_no_lateness():
    """A slot may be decided as late as its entry allows, and a minute more."""
    entry = entry_named("nightly", jitter_seconds=600)
    decided(entry, "fired", 2, late=timedelta(minutes=10))
    assert "late" not in rows(page(entered()))["nightly made in the admin"][3]


def test_an_entrys_page_has_its_slots_with_their_outcomes():
    """The newest first, each with its decision, how late it was, its outcome and who asked."""
    entry = entry_named("nightly", missed="all", missed_max=10, overlap="queue_one")
    outcome = answered()
    decided(entry, "made_up", 2, outcome, late=timedelta(hours=1))
    decided(entry, "by_hand", 1, asked_by="ada")
    text = about(entered(), entry)
    found = list(rows(text).values())
    assert found[-2:] == [
        ["by hand", "-", "-", "ada"],
        ["made up", "1 h late", "✓ succeeded", "-"],
    ]
    assert reverse("admin:tasks_app_outcome_change", args=[outcome.pk]) in text
    assert "the newest 10 are made up" in text
    assert "one slot waits for the one before" in text


def test_the_last_success_is_known_from_the_stock_when_no_slot_has_it():
    """Also after the slots of that time are gone."""
    entry = entry_named("nightly")
    assert "none is known" in page(entered())
    at = timezone.now() - timedelta(days=3)
    counts = f'{{"schedule_succeeded_at": {{"nightly": {at.timestamp()}}}}}'
    Stock.objects.create(pk=stock.ROW, taken_at=timezone.now(), totals_json=counts)
    client = Client()
    client.force_login(get_user_model().objects.get())
    assert "3 days ago" in words(page(client))
    assert "3 days ago" in words(about(client, entry))


@pytest.mark.parametrize("pk", [0, 99_999, 10**30])
def test_there_is_no_page_of_an_entry_that_is_none(pk):
    """Whatever number stands in the address."""
    response = entered().get(reverse("admin:tasks_app_schedule", args=[pk]))
    assert response.status_code == MISSING


def test_a_thousand_entries_are_found_by_name_and_by_page():
    """A page has fifty of them; a wrong number of a page is one of those there are."""
    every = CrontabSchedule.objects.create(minute="0")
    PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"job {number:05}", task=add.name, crontab=every)
        for number in range(1_000)
    )
    client = entered()
    assert "Page 1 of 20, 1000 jobs" in page(client)
    assert "job 00999" in page(client, p="20")
    assert "Page 1 of 20," in page(client, p="x")
    text = page(client, q="077")
    assert text.count("/periodic/") == 11 + 1  # and one in the navigation
    assert "No periodic job has this" in page(client, q="%'")


def test_the_pages_cost_the_same_for_one_slot_and_for_many():
    """Statements do not grow with entries and slots, nor what is read of one entry."""
    client = entered("enqueue_outcome", "pause_schedule", "backfill_schedule")
    entry = entry_named("nightly")
    decided(entry, "fired", 1, answered())
    once = {name: statements(client, name, entry) for name in STATEMENTS}
    for number in range(40):
        another = entry_named(f"job {number}")
        decided(another, "fired", 1, add.enqueue(1, 2))
    for hours in range(2, 200):
        decided(entry, "fired", hours, add.enqueue(1, 2))
    for outcome in Outcome.objects.all()[:50]:
        outcomes.cancel(outcome.pk)
    for name, number in STATEMENTS.items():
        seen = statements(client, name, entry)
        own = [sql for sql in seen if re.search("tasks_app_|django_celery_beat_", sql)]
        assert len(own) == number, own
        assert len(seen) == len(once[name])


def statements(client, name, entry):
    with CaptureQueriesContext(connection) as captured:
        page(client) if name == "periodic" else about(client, entry)
    return [query["sql"] for query in captured.captured_queries]


def press(client, entry, act, **more):
    """Press a button of an entry's page; return what the next page says."""
    address = reverse("admin:tasks_app_schedule", args=[entry.pk])
    response = client.post(address, {"act": act, **more}, follow=True)
    assert response.status_code == OK
    return words(response.content.decode())


def told():
    """Return what the history says, by whom."""
    entries = LogEntry.objects.order_by("pk")
    return [(each.object_repr, each.change_message, each.user.username) for each in entries]


def test_the_next_five_runs_are_told_in_both_time_zones():
    """In the reader's and in the entry's own; none while it is paused."""
    client = entered("pause_schedule")
    entry = entry_named("nightly")
    text = about(client, entry)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for number in range(1, 6):
        at = hour + timedelta(hours=number)
        assert f"{at:%a %Y-%m-%d %H:%M:%S}" in text
        assert f"{at.astimezone(BERLIN):%a %Y-%m-%d %H:%M:%S %Z}" in text
    assert "Every hour" in text
    press(client, entry, "pause")
    assert "None comes while it is paused." in about(client, entry)


def test_a_run_by_hand_is_a_slot_with_an_outcome():
    """It tells who asked for it, also in the history."""
    entry = entry_named("nightly")
    assert "nightly runs now" in press(entered("enqueue_outcome"), entry, "run_now")
    slot = Slot.objects.get()
    outcome = Outcome.objects.get()
    assert (slot.decision, slot.asked_by, slot.outcome_id) == ("by_hand", "visitor", outcome.pk)
    assert (outcome.task_name, outcome.args) == (add.name, [1, 2])
    assert told() == [
        (str(entry), f"The job nightly runs now, as outcome {outcome.pk}.", "visitor")
    ]


def test_pause_and_resume_are_refused_when_somebody_was_first():
    """The page says so, and the history has the acts alone."""
    client = entered("pause_schedule")
    entry = entry_named("nightly")
    assert "was not resumed: it is not paused" in press(client, entry, "resume")
    assert "nightly is paused" in press(client, entry, "pause")
    assert not PeriodicTask.objects.get().enabled
    assert Timer.objects.get().next_at is None
    assert "was not paused: it is paused already" in press(client, entry, "pause")
    assert "nightly is due again" in press(client, entry, "resume")
    assert PeriodicTask.objects.get().enabled
    assert Timer.objects.get().next_at > timezone.now()
    said = [message for _entry, message, _user in told()]
    assert said == [
        "The job nightly is paused. What runs already goes on.",
        "The job nightly is due again.",
    ]


def test_a_backfill_says_first_how_many_slots_it_would_fire():
    """The range is meant in the entry's zone; what had its turn stays as it is."""
    client = entered("backfill_schedule")
    entry = entry_named("nightly")
    at = datetime(2026, 3, 1, 10, tzinfo=BERLIN)
    for hours, decision in ((0, "fired"), (1, "missed")):
        slot_at = at + timedelta(hours=hours)
        outcome_id = add.enqueue(1, 2).pk if decision == "fired" else None
        Slot.objects.create(
            entry_id=entry.pk, slot_at=slot_at, decision=decision, outcome_id=outcome_id
        )
    wanted = {"since": "2026-03-01T10:00", "until": "2026-03-01T13:59:59"}
    asked = words(about(client, entry, **wanted))
    assert "3 slots of that range would fire now. 1 had their turn already" in asked
    assert not Slot.objects.filter(decision="backfilled").exists()
    assert "Backfilled 3 slots of the job nightly" in press(client, entry, "backfill", **wanted)
    made = Slot.objects.filter(decision="backfilled").order_by("slot_at")
    assert [slot.slot_at for slot in made] == [at + timedelta(hours=hours) for hours in (1, 2, 3)]
    assert all(slot.outcome_id for slot in made)
    assert "no slot of that range is left" in press(client, entry, "backfill", **wanted)
    assert len(told()) == 1


@pytest.mark.parametrize(
    ("since", "until", "why"),
    [
        ("2026-03-01T10:00", "", "Give two times"),
        ("2026-03-02T10:00", "2026-03-01T10:00", "Give two times"),
        ("yesterday", "today", "Give two times"),
        ("2026-13-01T10:00", "2026-03-01T10:00", "Give two times"),
        ("0001-01-01T00:00", "9999-12-31T23:59", "Give two times"),
        ("2026-03-01T10:00+01:00", "2026-03-01T11:00+01:00", "Give two times"),
        ("2020-01-01T00:00", "2026-01-01T00:00", "more than 1,000 slots"),
    ],
)
def test_a_range_that_cannot_be_backfilled_is_refused(since, until, why):
    """On the page that counts, and by the act."""
    client = entered("backfill_schedule")
    entry = entry_named("nightly")
    wanted = {"since": since, "until": until}
    assert why in about(client, entry, **wanted)
    assert why in press(client, entry, "backfill", **wanted)
    assert not Slot.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_range_of_the_future_has_no_slot():
    """What is still to come is left to its time."""
    entry = entry_named("nightly")
    wanted = {"since": "2400-01-01T00:00", "until": "2400-01-02T00:00"}
    assert "no slot of the past" in about(entered("backfill_schedule"), entry, **wanted)


def test_a_broken_entry_says_what_is_wrong_and_is_not_run():
    """Its page is there all the same, and the list of all."""
    entry = entry_named("nightly")
    PeriodicTask.objects.filter(pk=entry.pk).update(args="[1, ")
    client = entered("enqueue_outcome")
    assert "its args are no JSON" in about(client, entry)
    assert "nightly was not run" in press(client, entry, "run_now")
    page(client)
    assert not Slot.objects.exists()
    assert not LogEntry.objects.exists()


def test_what_the_admin_changed_is_told():
    """Beside the entry, by the fields that differ from what code declared."""
    entry_named("nightly", code_name="nightly")
    declared = {"task": add.name, "args": [2, 3], "enabled": True}
    Timer.objects.update(declared_json=json.dumps(declared))
    assert "changed in the admin: args" in page(entered())


def test_without_the_permission_there_is_neither_button_nor_act():
    """Looking is one right, each act another."""
    entry = entry_named("nightly")
    client = entered("cancel_outcome")
    assert 'value="run_now"' not in about(client, entry)
    address = reverse("admin:tasks_app_schedule", args=[entry.pk])
    for act in ("run_now", "pause", "resume", "backfill"):
        assert client.post(address, {"act": act}).status_code == FORBIDDEN
    assert client.post(address, {"act": "drop"}).status_code == BAD
    assert not Slot.objects.exists()
