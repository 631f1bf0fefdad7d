"""The pages of failures: grouped by kind, bounded, and leading to what is to be done."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app import outcomes
from tasks_app.leases import Failure, Lease
from tasks_app.models import Cause, Outcome
from tasks_app.states import Reason
from tests.integration.command_line import ago, claimed
from tests.testapp.tasks import add, total
from tests.visitors import entered

pytestmark = pytest.mark.django_db

OK, MISSING = 200, 404

#: Statements of each page itself.
OF_ALL, OF_ONE = 4, 5


@pytest.fixture
def client():
    return entered("replay_outcome")


def fail(task=add, error_type="shop.Declined", place="shop.cards:charge", **said):
    """Let an outcome of a task fail in a place; return its cause."""
    outcome = add.enqueue(1, 2) if task is add else task.enqueue([1])
    failure = Failure(error_type, **{"error": "no luck", "traceback": "", "place": place, **said})
    outcomes.fail(Lease.of(claimed(outcome)), Reason.NOT_RETRYABLE, failure)
    return Cause.objects.get(pk=outcome.pk)


def aged(cause, **span):
    Cause.objects.filter(pk=cause.pk).update(failed_at=ago(**span))
    return cause


def page(client, name="failures", *args, **query):
    response = client.get(reverse(f"admin:tasks_app_{name}", args=args), query)
    assert response.status_code == OK
    return response.content.decode()


def rows(text, label):
    """Return the texts of a table's rows."""
    table = re.search(rf'aria-label="{label}">(.*?)</table>', text, re.DOTALL)
    body = table[1].partition("<tbody>")[2]
    return [
        " ".join(re.sub(r"<title>.*?</title>|<[^>]+>", " ", row).split())
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def kinds(text):
    return rows(text, "Failures by kind")


def test_failures_are_grouped_by_class_and_place(client):
    """The most frequent kind first, with its tasks, its times and its latest error."""
    aged(fail(error="the first"), hours=5)
    fail(total, error="the latest")
    fail(error_type="shop.Broken", place="")
    often, rare = kinds(page(client))
    assert often.startswith("shop.Declined in shop.cards:charge the latest")
    assert add.name in often
    assert total.name in often
    assert " 2 " in often
    assert "5 hours ago" in often.replace("\xa0", " ")
    assert rare.startswith("shop.Broken not in the project’s code no luck")


@pytest.mark.parametrize(
    ("query", "hours"),
    [
        ({}, [1, 24, 160]),
        ({"range": "24h"}, [1]),
        ({"range": "30d"}, [1, 24, 160, 700]),
        ({"range": "all"}, [1, 24, 160, 700, 9000]),
        ({"range": "x' OR 1"}, [1, 24, 160]),
    ],
)
def test_the_range_in_the_address_is_the_range_of_the_page(client, query, hours):
    """A link to a page shows everybody the same."""
    for each in (1, 24, 160, 700, 9000):
        aged(fail(error_type=f"shop.After{each}"), hours=each, minutes=1)
    found = kinds(page(client, **query))
    assert {int(re.match(r"shop\.After(\d+)", row)[1]) for row in found} == set(hours)


def test_a_range_without_failures_says_what_that_means(client):
    """An empty page is no broken page."""
    aged(fail(), days=10)
    assert "No outcome failed in 7 days." in page(client)


def test_the_bars_are_told_in_words(client):
    """Whoever does not see them knows what they show."""
    for _ in range(3):
        fail()
    text = page(client, range="24h")
    assert re.search(r'<path d="([^"]+)"', text)[1].count("z") == 24
    assert re.search(
        r'role="img"[^>]*aria-label="Failures since [^"]*: 3 in the highest, 3 in the last"', text
    )
    assert "style=" not in text.partition('id="failures"')[2]


def test_more_failures_than_can_be_grouped_are_told(client, monkeypatch):
    """The newest count, and the page says from when on."""
    monkeypatch.setattr("tasks_app.admin.causes.GROUPED", 3)
    for hours in range(5):
        aged(fail(error_type=f"shop.Kind{hours}"), hours=hours, minutes=1)
    text = page(client)
    assert "only the newest 3 are grouped" in text
    assert {row[:10] for row in kinds(text)} == {"shop.Kind0", "shop.Kind1", "shop.Kind2"}


def test_a_kind_has_a_page_with_its_newest_outcomes_and_a_traceback(client):
    """What a person needs who is to mend it."""
    old = aged(fail(), hours=30)
    cause = fail(total, traceback="Traceback: here\nshop.Declined: <b>no</b>")
    text = page(client, "failure", cause.fingerprint)
    newest = rows(text, "The newest outcomes")
    assert [total.name in newest[0], add.name in newest[1]] == [True, True]
    for pk in (old.pk, cause.pk):
        assert reverse("admin:tasks_app_outcome_change", args=[pk]) in text
    assert "shop.Declined: &lt;b&gt;no&lt;/b&gt;" in text
    assert sorted(rows(text, "Tasks")) == [f"{add.name} 1", f"{total.name} 1"]
    assert "the last one did" in page(
        client, "failure", aged(cause, days=9).fingerprint, range="24h"
    )


def test_what_was_replayed_is_told_apart(client):
    """A failure that somebody has dealt with is not dealt with again."""
    cause = fail()
    fail()
    Outcome.objects.get(pk=cause.pk).replay()
    assert "1 replayed" in kinds(page(client))[0]
    newest = rows(page(client, "failure", cause.fingerprint), "The newest outcomes")
    assert sorted("↻" in row for row in newest) == [False, True]


@pytest.mark.parametrize("fingerprint", ["0" * 32, "x", "%00", "' OR 1=1 --", "0" * 5000])
def test_an_unknown_kind_has_no_page(client, fingerprint):
    """Whatever stands in the address."""
    response = client.get(f"/admin/tasks_app/outcome/failures/{fingerprint}/")
    assert response.status_code == MISSING


def test_whoever_may_replay_is_led_to_the_confirmation(client):
    """With the kind as filter; nobody else is."""
    cause = fail()
    chosen = f"action=replay&amp;state=failed&amp;fingerprint={cause.fingerprint}"
    address = f"{reverse('admin:tasks_app_bulk_confirm')}?{chosen}"
    names = (("failures",), ("failure", cause.fingerprint))
    assert all(address in page(client, *name) for name in names)
    get_user_model().objects.all().delete()
    viewer = entered()
    assert not any(address in page(viewer, *name) for name in names)


def test_the_pages_cost_the_same_for_one_failure_and_for_many(client):
    """And read a bounded number of rows each."""
    cause = fail()
    seen = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as of_all:
            page(client)
        with CaptureQueriesContext(connection) as of_one:
            page(client, "failure", cause.fingerprint)
        seen.append((own(of_all), own(of_one)))
        for number in range(15):
            fail(error_type=f"shop.Kind{number % 5}")
            fail()
    assert seen == [(OF_ALL - 1, OF_ONE - 1)] * 2
    with CaptureQueriesContext(connection) as of_ever:
        page(client, range="all")
    assert own(of_ever) == OF_ALL


def own(captured):
    return len([query for query in captured.captured_queries if "tasks_app_" in query["sql"]])


def test_no_more_is_read_of_an_outcome_than_is_shown(client):
    """Arguments and results may be large, and are nobody's business here."""
    cause = fail()
    with CaptureQueriesContext(connection) as captured:
        page(client, "failure", cause.fingerprint)
        page(client)
    assert not [query for query in captured.captured_queries if "args_json" in query["sql"]]
