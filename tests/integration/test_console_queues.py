"""The page of the queues: what it tells, and what its buttons do."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app import outcomes, queues, stock
from tasks_app.models import Outcome, PausedQueue, Stock
from tests import by_hand
from tests.integration.command_line import ago, claimed, rewritten
from tests.testapp.tasks import add
from tests.visitors import entered

pytestmark = pytest.mark.django_db

OK, FOUND, BAD, FORBIDDEN = 200, 302, 400, 403

#: Statements of the page itself; beside them are the session, the user and his permissions.
STATEMENTS = 4


def page(client):
    response = client.get(reverse("admin:tasks_app_queues"))
    assert response.status_code == OK
    return response.content.decode()


def cells(text, queue):
    """Return the texts of a queue's row, without its name and its button."""
    row = next(
        row for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if f">{queue}</a>" in row
    )
    found = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in found][:5]


def take():
    Stock.objects.bulk_create([Stock(pk=stock.ROW)], ignore_conflicts=True)
    assert stock.take()


def press(client, act, queue="celery", **more):
    return client.post(
        reverse("admin:tasks_app_queues"), {"act": act, "queue": queue, **more}, follow=True
    )


def test_the_page_tells_what_waits_runs_and_ends():
    """Depth and runs as they are now, age and rate as last counted."""
    for number in range(3):
        rewritten(add.enqueue(number, 1), run_at=ago(minutes=5))
    claimed(add.enqueue(1, 1))
    for _ in range(2):
        by_hand.answer(add.enqueue(1, 1))
    take()
    state, waiting, oldest, running, rate = cells(page(entered()), "celery")
    assert (state, waiting, running, rate) == ("▶ open", "3", "1", "2")
    assert oldest.startswith("5")


def test_before_anything_was_counted_the_page_says_so():
    """What waits is shown all the same, in queues of which nothing here knows."""
    add.using(queue="unknown here").enqueue(1, 2)
    text = page(entered())
    assert "Nobody has counted yet" in text
    assert cells(text, "unknown here") == ["▶ open", "1", "-", "0", "-"]


def test_deep_queues_are_told_from_the_last_count(monkeypatch):
    """Beyond a bound nobody counts the rows for a page."""
    monkeypatch.setattr("tasks_app.admin.queues.COUNTED", 3)
    add.enqueue_many([(number, 1) for number in range(5)])
    client = entered()
    assert cells(page(client), "celery")[1] == "3 or more"
    take()
    add.enqueue_many([(number, 1) for number in range(5)])
    assert cells(page(client), "celery")[1] == "about 5"


def test_a_paused_queue_is_told_with_whom_and_why():
    """Also one where nothing waits and which nobody declares."""
    queues.pause("mail", by="alice", reason="the provider is down")
    assert cells(page(entered()), "mail")[0].endswith("by alice: the provider is down")


def test_pause_and_resume_leave_an_entry_each():
    """Whoever acts is named in the row and in the history."""
    client = entered("pause_queue")
    assert "is paused" in press(client, "pause", reason="deploy").content.decode()
    row = PausedQueue.objects.get()
    assert (row.name, row.paused_by, row.reason) == ("celery", "visitor", "deploy")
    assert cells(page(client), "celery")[0].startswith("■ paused")
    assert "works again" in press(client, "resume").content.decode()
    assert not PausedQueue.objects.exists()
    told = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    assert list(told) == [("celery", "Paused. deploy"), ("celery", "Resumed.")]
    assert {entry.user.username for entry in LogEntry.objects.all()} == {"visitor"}


def test_what_has_moved_on_is_refused_with_the_reason():
    """Two people at the same button: the second one is told."""
    client = entered("pause_queue")
    assert "it is not paused" in press(client, "resume").content.decode()
    queues.pause("celery", by="somebody else")
    assert "it is paused already" in press(client, "pause").content.decode()
    assert PausedQueue.objects.get().paused_by == "somebody else"
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    "form", [{"act": "drop", "queue": "celery"}, {"queue": "celery"}, {"act": "pause"}]
)
def test_a_forged_form_does_nothing(form):
    """Neither an act that is none nor a queue without a name."""
    response = entered("pause_queue").post(reverse("admin:tasks_app_queues"), form)
    assert response.status_code in {BAD, FOUND}
    assert not PausedQueue.objects.exists()
    assert not LogEntry.objects.exists()


def test_without_the_permission_there_is_neither_button_nor_act():
    """Looking is one right, pausing another."""
    client = entered("cancel_outcome")
    assert "<button" not in page(client).partition('id="queues"')[2]
    assert press(client, "pause").status_code == FORBIDDEN
    assert not PausedQueue.objects.exists()


def test_the_page_costs_the_same_for_one_row_and_for_many():
    """It counts to a bound, and never reads the table."""
    client = entered("pause_queue")
    add.enqueue(1, 2)
    take()
    with CaptureQueriesContext(connection) as one:
        page(client)
    add.enqueue_many([(number, 1) for number in range(300)])
    for outcome in Outcome.objects.all()[:100]:
        outcomes.cancel(outcome.pk)
    with CaptureQueriesContext(connection) as many:
        page(client)
    own = [query["sql"] for query in one.captured_queries if "tasks_app_" in query["sql"]]
    assert len(own) == STATEMENTS
    assert len(many) == len(one)
