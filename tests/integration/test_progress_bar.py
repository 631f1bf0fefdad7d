"""The bar on a page: drawn as the outcome stands, free of inline script, linked once, escaped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from celery import exceptions as celery_exceptions
from django.contrib.staticfiles import finders
from django.db import connection
from django.template import Context, Template
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from tasks_app import Snooze, current, status_token
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tests import by_hand
from tests.integration.command_line import claimed, failed, rewritten, succeeded
from tests.testapp import tasks

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>"
BAR = "{% load tasks_app %}{% task_progress outcome %}"


def drawn(source: str, **values: Any) -> str:
    """Render a page of a request."""
    return Template(source).render(
        Context({"request": RequestFactory().get("/desk?a=1&b=2")} | values)
    )


def tags(page: str, name: str) -> list[str]:
    return re.findall(rf"<{name}\b[^>]*>", page)


@pytest.mark.parametrize(
    ("change", "bar", "text"),
    [
        (lambda outcome: outcome, "", "waiting"),
        (claimed, "", "running"),
        (succeeded, 'value="1.0"', "done"),
        (failed, 'value="0.0"', "failed"),
        (
            lambda outcome: rewritten(
                claimed(outcome), progress_done=1, progress_total=8, progress_message="a & b"
            ),
            'value="0.125"',
            "running · 12% · a &amp; b",
        ),
    ],
)
def test_a_bar_shows_how_the_outcome_stands(change, bar, text):
    """Without any script, in every language, and without a statement."""
    outcome = change(tasks.add.enqueue(1, 2))
    with CaptureQueriesContext(connection) as captured:
        page = drawn(BAR, outcome=outcome)
    assert not captured.captured_queries
    (progress,) = tags(page, "progress")
    assert bar in progress
    assert ("value=" in progress) == bool(bar)
    assert f'<span class="tasks-progress-text">{text}</span>' in page
    assert f'data-task-events="/tasks/{outcome.id}/events"' in page


def test_a_bar_is_a_number_in_every_language(settings):
    """A comma would make it no number to a browser."""
    settings.LANGUAGE_CODE = "de"
    outcome = rewritten(claimed(tasks.add.enqueue(1, 2)), progress_done=1, progress_total=8)
    assert 'value="0.125"' in drawn(BAR, outcome=outcome)


def test_several_bars_share_one_script():
    """Also if they stand in loops and in included templates."""
    outcomes = [tasks.add.enqueue(1, number) for number in range(3)]
    loop = (
        "{% load tasks_app %}{% for outcome in outcomes %}{% task_progress outcome %}{% endfor %}"
    )
    included = Template(BAR)
    page = drawn(
        loop
        + "{% include bar with outcome=outcomes.0 %}{% include bar with outcome=outcomes.1 only %}",
        outcomes=outcomes,
        bar=included,
    )
    assert len(tags(page, "progress")) == 5
    assert len(tags(page, "script")) == len(tags(page, "link")) == 1


def test_script_and_style_can_stand_where_the_page_wants_them():
    """In its head; then no bar brings them along."""
    page = drawn(
        "{% load tasks_app %}{% task_progress_media %}<body>" + BAR, outcome=tasks.add.enqueue(1, 2)
    )
    head, _, body = page.partition("<body>")
    assert len(tags(head, "script")) == len(tags(head, "link")) == 1
    assert not tags(body, "script")
    assert len(tags(drawn("{% load tasks_app %}{% task_progress_media %}"), "script")) == 1


def test_a_strict_content_security_policy_is_kept():
    """Nothing inline, nothing from elsewhere."""
    outcome = tasks.add.enqueue(1, 2)
    page = drawn("{% load tasks_app %}{% task_progress outcome cancel=True %}", outcome=outcome)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page) == [""]
    assert not re.search(r"\s(style|on\w+)=", page)
    assert not re.search(r"(src|href|action)=\"(?!/)", page)
    for name in ("progress.js", "progress.css"):
        source = Path(finders.find(f"tasks_app/{name}")).read_text()
        assert not re.search(r"innerHTML|insertAdjacentHTML|https?:|@import|\beval\b", source)


def test_texts_of_strangers_stay_texts():
    """Message, label and address of the page."""
    outcome = rewritten(claimed(tasks.add.enqueue(1, 2)), progress_done=1, progress_message=HOSTILE)
    page = drawn(
        "{% load tasks_app %}{% task_progress outcome label=label cancel=True token=label %}",
        outcome=outcome,
        label=HOSTILE,
        request=RequestFactory().get("/desk", {"a": HOSTILE}),
    )
    assert len(tags(page, "script")) == 1
    assert not tags(page, "img")
    assert HOSTILE not in page


def test_a_secret_of_the_call_is_not_in_the_bar():
    """Whatever the helper reports."""
    outcome = claimed(tasks.charge.enqueue(1, card_token="canary-1", mood="pay"))
    rewritten(outcome, progress_done=1, progress_message="with canary-1")
    assert "canary" not in drawn(BAR, outcome=outcome)


def test_cancelling_is_offered_where_the_page_says_so():
    """A form that works without a script, with Django's token and the way back."""
    outcome = tasks.add.enqueue(1, 2)
    assert not tags(drawn(BAR, outcome=outcome), "form")
    offering = (
        "{% load tasks_app %}{% task_progress outcome label='Import' cancel=True token=token %}"
    )
    token = status_token(outcome, may_cancel=True)
    page = drawn(offering, outcome=outcome, token=token, csrf_token="django's")
    assert f'action="/tasks/{outcome.id}/cancel"' in page
    assert 'name="csrfmiddlewaretoken" value="django&#x27;s"' in page
    assert 'name="next" value="/desk?a=1&amp;b=2"' in page
    assert page.count(token) == 2
    assert not tags(drawn(offering, outcome=succeeded(outcome), token=token), "form")


def test_without_a_request_a_bar_is_drawn_all_the_same():
    """As in a page that a task renders."""
    page = Template(BAR).render(Context({"outcome": tasks.add.enqueue(1, 2)}))
    assert len(tags(page, "progress")) == 1


def test_what_a_bar_shows_is_what_its_script_is_told(client):
    """So the first answer of the server is no change."""
    outcome = claimed(tasks.add.enqueue(1, 2))
    page = drawn(BAR, outcome=Outcome.objects.get())
    (version,) = re.findall(r'data-task-version="([^"]+)"', page)
    headers = {"Authorization": f"Bearer {status_token(outcome)}", "Last-Event-ID": version}
    answer = client.get(f"/tasks/{outcome.id}/events", headers=headers)
    assert b"data:" not in answer.getvalue()


def test_what_a_run_reported_before_it_snoozed_is_seen_meanwhile():
    """A helper that looks now and then whether others are ready tells how far they are."""

    def look(key: str, note: str = "") -> None:
        current.progress(3, 4, "others")
        raise Snooze(after=60)

    outcome = tasks.record.enqueue("key")
    with pytest.raises(celery_exceptions.Retry):
        by_hand.run(claimed(outcome), look)
    outcome.refresh()
    assert "in progress · 75% · others" in drawn(BAR, outcome=outcome)


@pytest.mark.urls("tests.integration.urls_without_ours")
def test_without_addresses_the_error_says_which_line_to_add():
    """Django's own would name an address that nobody has heard of."""
    with pytest.raises(ConfigurationError, match=r'include\("tasks_app.urls"\)'):
        drawn(BAR, outcome=tasks.add.enqueue(1, 2))
