"""The admin of django-celery-beat's schedules: where each comes from, and acts that make slots."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app.models import Outcome, Slot, Timer
from tests.testapp.tasks import add

pytestmark = [
    pytest.mark.django_db,
    # Django's own form of a URL, on the pages of schedules.
    pytest.mark.filterwarnings("ignore:The default scheme will be changed"),
]

LIST = "admin:django_celery_beat_periodictask_changelist"
FORM = "admin:django_celery_beat_periodictask_change"


@pytest.fixture
def client():
    PeriodicTask.objects.all().delete()
    Timer.objects.all().delete()
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client


def entry_named(name, code_name=None, **declared):
    """Make an hourly entry that code declares, or that nobody but the admin knows."""
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    entry = PeriodicTask.objects.create(name=name, task=add.name, interval=every, args="[1, 2]")
    text = json.dumps({"task": add.name, "args": [1, 2], "enabled": True, **declared})
    Timer.objects.create(
        pk=entry.pk, name=name, code_name=code_name, declared_json=text if code_name else ""
    )
    return entry


def press(client, action, *entries):
    form = {"action": action, "_selected_action": [each.pk for each in entries], "index": "0"}
    return client.post(reverse(LIST), form, follow=True).content.decode()


def test_the_list_says_where_each_schedule_comes_from(client):
    """And links to its slots; in one statement for all, whoever looks."""
    entry = entry_named("by hand")
    with CaptureQueriesContext(connection) as one:
        client.get(reverse(LIST))
    entry_named("declared", "declared")
    entry_named("changed", "changed", args=[7])
    with CaptureQueriesContext(connection) as many:
        page = client.get(reverse(LIST)).content.decode()
    assert len(many) == len(one)
    for told in (">in the admin</a>", ">in code</a>", ">in code, changed in the admin: args</a>"):
        assert told in page
    assert reverse("admin:tasks_app_schedule", args=[entry.pk]) in page
    # Nothing in the settings names beat's scheduler: the app does.
    assert "Periodic tasks won" not in page


def test_the_form_says_that_code_declares_a_schedule(client):
    """And what the admin has changed so far; that of a new schedule says nothing."""
    by_code, by_hand = entry_named("changed", "changed", args=[7]), entry_named("by hand")
    form = client.get(reverse(FORM, args=[by_code.pk])).content.decode()
    assert "Declared in code as changed." in form
    assert "Changed so far: args." in form
    assert "In the admin." in client.get(reverse(FORM, args=[by_hand.pk])).content.decode()
    new = client.get(reverse("admin:django_celery_beat_periodictask_add")).content.decode()
    assert "In the admin." not in new


def test_running_selected_tasks_makes_slots(client):
    """With who asked for them; all of them or none."""
    entries = [entry_named("one"), entry_named("two")]
    assert "Run by hand: 2." in press(client, "run_tasks", *entries)
    assert {(slot.name, slot.decision, slot.asked_by) for slot in Slot.objects.all()} == {
        ("one", "by_hand", "root"),
        ("two", "by_hand", "root"),
    }
    assert Outcome.objects.filter(task_name=add.name).count() == 2
    PeriodicTask.objects.filter(name="two").update(args="[1, ")
    assert "Nothing was done" in press(client, "run_tasks", *entries)
    assert Slot.objects.count() == Outcome.objects.count() == LogEntry.objects.count() == 2


def test_disabling_and_enabling_selected_tasks_moves_their_timers(client):
    """At once, not when a beat notices."""
    entry = entry_named("one")
    press(client, "toggle_tasks", entry)
    assert not PeriodicTask.objects.get().enabled
    press(client, "enable_tasks", entry)
    assert PeriodicTask.objects.get().enabled
    assert Timer.objects.get().next_at is not None
    press(client, "disable_tasks", entry)
    assert Timer.objects.get().next_at is None
    told = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(told) == ["Toggled.", "Enabled.", "Disabled."]
