"""The trace of a request: all that it caused, in its order, told to those who may see it."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote

import pytest
from celery import chain, chord
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app import context
from tasks_app.admin import trace
from tasks_app.admin.lineages import tree
from tasks_app.models import Outcome, WebRequest
from tasks_app.uuid7 import uuid7
from tests import by_hand
from tests.integration.scenes import REQUEST, Scene, rich, unfinished
from tests.testapp.tasks import add, fail_with, total

pytestmark = pytest.mark.django_db

CANARY = "tok_secret_4242"


def reader(*rights: str) -> Client:
    """Return a client of staff with some rights, or of a superuser for "all"."""
    user = get_user_model().objects.create_user(
        f"user-{len(rights)}", is_staff=True, is_superuser=rights == ("all",)
    )
    if rights != ("all",):
        ours = Permission.objects.filter(content_type__app_label="tasks_app")
        user.user_permissions.set(ours.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer() -> Client:
    return reader("view_outcome")


def page(request_id: str = REQUEST) -> str:
    return reverse("admin:tasks_app_trace", args=[request_id])


def lines(text: str) -> list[str]:
    """Return what the waterfall says of each outcome, level by level."""
    found = re.findall(
        r'class="tasks-line-label tasks-indent-(\d)">(.*?)<span class="tasks-line-more">',
        text,
        re.DOTALL,
    )
    plain = [(level, re.sub(r"<[^>]*>", " ", label)) for level, label in found]
    return [f"{level} {' '.join(unescape(label).split())}" for level, label in plain]


def statements(client: Client, address: str) -> list[str]:
    """Return what a page asks of the app's own tables."""
    client.get(address)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in captured.captured_queries if "tasks_app_" in query["sql"]]


def test_everything_is_shown_in_its_tree(viewer):
    """Parents before children, what follows an outcome after it, each with how it came about."""
    rich()
    assert lines(viewer.get(page()).content.decode()) == [
        "1 POST shop/orders/<int:order_id>/submit/",
        "1 shop.submit_order",
        "2 └ child shop.draw_label",
        "2 └ child shop.draw_label",
        "2 └ child shop.draw_label",
        "2 ⇥ chord callback shop.zip_labels",
        "2 └ child shop.reserve_stock",
        "2 └ child shop.tell_warehouse",
        "2 ⟳ replay shop.tell_warehouse",
        "2 └ child shop.survey",
        "1 → next in chain shop.pay",
        "2 ↪ callback shop.mail_receipt",
    ]


def test_a_killed_run_and_its_rescue_are_seen(viewer):
    """The lost run, the wait after the rescue, and the run that made up for it."""
    rich()
    text = viewer.get(page()).content.decode()
    assert text.count('class="tasks-bar tasks-bar-lost"') == 1 + 1  # the legend has one
    assert "held back after the rescue" in text
    assert "2 runs · 1 lost" in text
    assert "run 1: lost, 3.4 s - The worker was lost: its lease ran out." in text


def test_times_and_counts_are_told(viewer):
    """From the start, and as a clock shows them."""
    scene = rich()
    text = " ".join(viewer.get(page()).content.decode().split())
    assert "⊘&nbsp;1&nbsp;cancelled" in text
    assert "✓&nbsp;9&nbsp;succeeded" in text
    assert f'<time datetime="{scene.at(0.3).isoformat()}">' in text
    assert "→ 202 in 180 ms" in text
    assert 'data-live="' not in text


def test_it_is_live_while_anything_is_not_final(viewer):
    """And says how far it is."""
    scene = unfinished()
    text = viewer.get(page(scene.request_id)).content.decode()
    assert f'id="tasks-trace" data-live="{trace.LOOK}"' in text
    assert "at 42 of 100" in text
    assert "so far" in text


@pytest.mark.parametrize("right", [True, False])
def test_log_lines_are_for_those_who_may_see_arguments(right):
    """Helpers log what they were called with; the pages hold it for nobody else."""
    rich()
    client = reader("view_outcome", *["view_outcome_arguments"] * right)
    assert (CANARY in client.get(page()).content.decode()) == right
    sent = " ".join(statements(client, page()))
    assert ("kept_log" in sent) == right
    assert "args_json" not in sent


def test_a_page_costs_the_same_for_few_outcomes_and_for_many(viewer):
    """Each statement goes through an index; counting is done here."""
    unfinished()
    few = statements(viewer, page("a-request-at-work-0001"))
    rich()
    scene = rich(request_id="another-request-1")
    Outcome.objects.filter(request_id="another-request-1").update(request_id=REQUEST)
    many = statements(viewer, page())
    assert len(few) == 3
    assert len(many) == 4  # and what the canvas of parents says
    assert scene.request_id == "another-request-1"
    newest = statements(viewer, reverse("admin:tasks_app_traces"))
    assert len(newest) == 2
    assert not [sql for sql in (*few, *many, *newest) if "COUNT(" in sql]


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (lambda: Outcome.objects.for_request(REQUEST), "tasks_outcome_request"),
        (lambda: WebRequest.objects.order_by("-started_at")[:50], "started_at"),
    ],
)
def test_its_rows_are_found_by_an_index(rows, index):
    """Whatever else there is in the table."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
    rich()
    assert index in rows().explain()


def test_more_than_a_page_holds_is_told_in_words(viewer, monkeypatch):
    """With the way to the rest, and with all of them counted."""
    monkeypatch.setattr(trace, "MOST", 4)
    monkeypatch.setattr(trace, "MOST_RUNS", 3)
    rich()
    text = viewer.get(page()).content.decode()
    assert len(lines(text)) == 5
    assert "The first 4 outcomes are shown." in text
    assert f"/admin/tasks_app/outcome/?request_id={REQUEST}" in text
    assert "Not every run is shown" in text
    assert "✓&nbsp;9&nbsp;succeeded" in text
    monkeypatch.setattr(trace, "MOST_COUNTED", 5)
    assert "more than 6" in " ".join(viewer.get(page()).content.decode().split())


@pytest.mark.parametrize(
    "hostile",
    [
        "short",
        "x" * 65,
        "<script>alert(1)",
        "' OR 1=1 --",
        "a b c d e f",
        "ünicode-id",
        "%00%00%00%00",
    ],
)
def test_what_cannot_be_a_request_id_is_not_found(viewer, hostile):
    """It is neither looked up nor shown."""
    address = f"/admin/tasks_app/outcome/trace/{quote(hostile, safe='%')}/"
    assert viewer.get(address).status_code == 404
    search = viewer.get(reverse("admin:tasks_app_traces"), {"request_id": hostile})
    assert search.status_code == 200
    assert "<script>alert(1)" not in search.content.decode()
    assert "8 to 64 letters" in search.content.decode()


def test_a_request_that_left_nothing_is_told_so(viewer):
    """It may have enqueued nothing, or be pruned."""
    assert "Nothing is recorded under this id" in viewer.get(page("unknown-id-1")).content.decode()


def test_a_request_without_a_row_or_without_outcomes_has_its_page(viewer):
    """Work of a schedule has no web request; work that was rolled back has nothing else."""
    Scene("only-a-request").web(0.2, status=None)
    assert "✗ an exception" in viewer.get(page("only-a-request")).content.decode()
    with context.working_for("only-an-outcome", None):
        add.enqueue(1, 2)
    assert "no recorded web request" in viewer.get(page("only-an-outcome")).content.decode()


def test_the_newest_requests_are_listed(viewer):
    """With what became of their outcomes; the search leads to any other."""
    rich()
    unfinished()
    address = reverse("admin:tasks_app_traces")
    text = viewer.get(address).content.decode()
    assert text.index("a-request-at-work-0001") < text.index(REQUEST)
    assert "◷&nbsp;1&nbsp;pending" in text
    found = viewer.get(address, {"request_id": f" {REQUEST} "})
    assert found.headers["Location"] == page()


def test_the_tree_of_a_real_canvas_names_its_followers():
    """As Celery has frozen them, and as they are named where it has not."""
    with context.working_for(REQUEST, None):
        chain(add.si(1, 2), add.si(3, 4)).apply_async(link_error=None)
        chord([add.si(1, 1), add.si(2, 2)])(total.s())
        fail_with.apply_async(("a key", "memory"), link_error=add.si(5, 6))
    for _ in range(3):
        for outcome in Outcome.objects.filter(state="pending"):
            try:
                by_hand.answer(outcome)
            except Exception:  # noqa: BLE001 - what it means is in the row
                continue
    rows = list(Outcome.objects.for_request(REQUEST))
    found = {
        (kin.outcome.task_name.rpartition(".")[2], kin.relation)
        for kin in tree(rows, trace._places(rows))
    }
    assert found == {
        ("add", ""),
        ("add", "next in chain"),
        ("total", "chord callback"),
        ("fail_with", ""),
        ("add", "error callback"),
    }


def test_a_ring_of_parents_is_shown_all_the_same():
    """Ids of parents came with messages once, so they may be anything."""
    first, second = uuid7(), uuid7()
    ring = [Outcome(id=first, parent_id=second), Outcome(id=second, parent_id=first)]
    assert [kin.outcome for kin in tree(ring, {})] == ring


def test_a_chain_of_any_length_is_a_column():
    """It neither runs out of stack nor out of the page."""
    ids = [uuid7() for _ in range(3_000)]
    steps = [
        Outcome(id=pk, parent_id=before) for pk, before in zip(ids, [None, *ids], strict=False)
    ]
    found = tree(steps, dict.fromkeys(ids, "chain"))
    assert [kin.outcome.pk for kin in found] == ids
    assert {kin.level for kin in found} == {1}
