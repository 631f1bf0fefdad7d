"""
Texts of strangers stay texts: on pages, in a terminal, in log lines and in SQL.

Every text column of an outcome and its attempt holds the payload, whoever may have written it.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import models
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app import stock
from tasks_app.models import (
    Attempt,
    BulkAction,
    Cause,
    Deploy,
    Heartbeat,
    Outcome,
    PausedQueue,
    Repeat,
    Rollup,
    Slot,
    Stock,
    Subject,
    Timer,
    WebRequest,
)
from tasks_app.poison import guarded
from tasks_app.selection import Selection
from tasks_app.selection_texts import as_json
from tasks_app.uuid7 import uuid7
from tests import by_hand
from tests.integration.command_line import claimed, tasks
from tests.testapp.tasks import record

pytestmark = pytest.mark.django_db

PAYLOADS = {
    "markup": "\"><script>alert(1)</script><img src=x onerror='alert(1)'>",
    "an attribute": "' onmouseover='alert(1)' \" autofocus onfocus=\"alert(1)",
    "an end": "</pre></details></script></textarea><iframe src=//evil>",
    "an address": "javascript:alert(1)//<svg/onload=alert(1)>",
    "a template": "{{ 7|add:7 }}{% debug %}{# x #}${7*7}",
    "SQL": "'; DROP TABLE tasks_app_outcome; --\" OR 1=1",
    "a formula": '=HYPERLINK("http://evil","x")+@SUM(1)',
    "lines": "a\r\nSet-Cookie: owned=1\n2026-01-01 CRITICAL forged",
    "a terminal's commands": "\x1b[2J\x1b]0;owned\x07\x9b31m\x08\x7f",
    "nothing": "\u2400\\x00\\0%00",
    "turned text": "\u202egnp.exe\u2066\u2069\u200f",
    "unseen text": "pay\u200bpal\ufeff\u2060\u00ad",
    "a book": "x" * 60_000,
}
HARMLESS = "harmless"

FINGERPRINT = "0123456789abcdef" * 2

#: Columns whose texts the database or the app reads, rather than shows.
READ = {"state", "args_json", "kwargs_json", "result_json", "options_json", "sentry_event_id"}

#: Characters that are no control characters and yet hide or turn a text.
DECEPTIVE = set(
    "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)


def texts(model: type[models.Model], payload: str) -> dict[str, str]:
    """Return the payload for each text column, as long as it takes."""
    fields = (
        f for f in model._meta.concrete_fields if isinstance(f, models.CharField | models.TextField)
    )
    return {f.name: payload[: f.max_length] for f in fields if f.name not in READ}


def hostile(payload: str) -> Outcome:
    """Return an outcome, with an attempt, whose every text is the payload."""
    now = timezone.now()
    outcome = Outcome(**texts(Outcome, payload), state="failed", started_at=now, finished_at=now)
    outcome.root_id, outcome.progress_done = outcome.id, 1
    outcome.created_at = outcome.run_at = now
    outcome.args_json, outcome.kwargs_json = json.dumps([payload]), json.dumps({payload: payload})
    outcome.result_json = (
        json.dumps({"a": payload}) if payload != HARMLESS else json.dumps({"a": "b"})
    )
    outcome.save()
    run = {"number": 1, "fence": 1, "state": "failed", "started_at": now}
    Attempt.objects.create(outcome=outcome, **run, **texts(Attempt, payload))
    told = {**texts(Cause, payload), "fingerprint": FINGERPRINT}
    Cause.objects.create(outcome=outcome, failed_at=now, **told)
    PausedQueue.objects.create(**texts(PausedQueue, payload))
    Repeat.objects.create(outcome_id=outcome.pk, asked_at=now, **texts(Repeat, payload))
    return outcome


class Shape(HTMLParser):
    """Counts a page's elements and attributes; Django itself turns line ends into breaks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: Counter[Any] = Counter()
        self.targets: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.found[tag, tuple(name for name, _ in attributes)] += 1
        self.targets += [
            value or "" for name, value in attributes if name in {"href", "src", "action"}
        ]


@pytest.fixture
def superuser() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client


def hostile_action(outcome: Outcome) -> BulkAction:
    """Return a bulk action whose every text is the outcome's."""
    BulkAction.objects.all().delete()
    chosen = Selection(tasks=(outcome.task_name,), request_id=outcome.request_id, schedule="x")
    return BulkAction.objects.create(
        action="move",
        selection_json=as_json(chosen),
        options_json=json.dumps({"queue": outcome.queue}),
        user_pk="0",
        username=outcome.worker,
        total=1,
        last_id=outcome.pk,
        refusals_json=json.dumps([[str(outcome.pk), outcome.reason]]),
        stop_reason=outcome.cancel_reason,
        finished_at=timezone.now(),
    )


def pages(client: Client, outcome: Outcome) -> list[str]:
    """Return every page that shows something of an outcome, the refusal of an act among them."""
    changelist = reverse("admin:tasks_app_outcome_changelist")
    LogEntry.objects.all().delete()
    LogEntry.objects.create(
        user=get_user_model().objects.get(),
        action_flag=2,
        object_id=str(outcome.pk),
        object_repr=str(outcome)[:200],
        change_message=outcome.reason,
    )
    chosen = {"action": "run_now", "_selected_action": str(outcome.pk), "index": "0"}
    refusal = client.post(changelist, {**chosen, "post": "yes"}, follow=True)
    filters = {"task": outcome.task_name, "queue": outcome.queue, "state": "failed"}
    confirm, bulk = reverse("admin:tasks_app_bulk_confirm"), hostile_action(outcome)
    answers = [
        refusal,
        client.post(changelist, chosen),
        client.get(confirm, filters),
        client.get(confirm, {**filters, "action": "replay"}),
        client.get(reverse("admin:tasks_app_bulk")),
        client.get(reverse("admin:tasks_app_bulk_action", args=[bulk.pk])),
        client.get(changelist),
        client.get(changelist, filters),
        client.get(changelist, {"request_id": outcome.request_id}),
        client.get(changelist, {"q": outcome.idempotency_key}),
        client.get(changelist, {"q": f"nothing {outcome.idempotency_key}"}),
        client.get(changelist, {"q": f"owner:{outcome.idempotency_key}"}),
        client.get(changelist, {"q": f"arg:0={outcome.idempotency_key}"}),
        client.get(changelist, {"periodic": outcome.queue, "owner": outcome.queue}),
        client.get(reverse("admin:tasks_app_outcome_change", args=[outcome.pk])),
        client.get(reverse("admin:tasks_app_outcome_history", args=[outcome.pk])),
        *traces(client, outcome),
        client.get(reverse("admin:index")),
        client.get(reverse("admin:tasks_app_queues")),
        client.post(
            reverse("admin:tasks_app_queues"),
            {"act": "pause", "queue": outcome.queue, "reason": outcome.reason},
            follow=True,
        ),
        client.get(reverse("admin:tasks_app_failures")),
        client.get(reverse("admin:tasks_app_failure", args=[FINGERPRINT])),
        *console(client, outcome),
        *periodic(client, outcome),
    ]
    assert {answer.status_code for answer in answers} == {200}
    bar = Template("{% load tasks_app %}{% task_progress outcome %}")
    drawn = bar.render(Context({"outcome": outcome}))
    return [*(answer.content.decode() for answer in answers), drawn]


def console(client: Client, outcome: Outcome) -> list[Any]:
    """Return the console's pages, with the text wherever a process, a task or a queue is named."""
    text = outcome.reason
    for model in (Heartbeat, Deploy, Rollup, Stock):
        model.objects.all().delete()
    about = {"host": text, "pid": text, "pool": text, "concurrency": text, "queues": [text]}
    Heartbeat.objects.create(
        name=text, kind="worker", version=text, about_json=json.dumps({**about, "memory": 1})
    )
    Deploy.objects.create(version=text)
    Stock.objects.create(
        pk=stock.ROW,
        taken_at=timezone.now(),
        recent_json=json.dumps(
            {
                "depth": {text: 1},
                "finished": {stock.key(outcome.task_name.replace("\n", " "), "failed"): 1},
            }
        ),
    )
    now = timezone.now()
    running = Outcome(
        task_name=outcome.task_name, queue=text, worker=text, state="running", claimed_at=now
    )
    running.root_id, running.lease_until = running.id, now
    running.save()
    answers = [client.get(reverse(f"admin:tasks_app_{page}")) for page in ("dashboard", "workers")]
    running.delete()
    Stock.objects.all().delete()
    return answers


def periodic(client: Client, outcome: Outcome) -> list[Any]:
    """Return the pages of a periodic job whose every text, and that of its slot, is the payload."""
    payload, now = outcome.task_name, timezone.now()
    for model in (PeriodicTask, Timer, Slot):
        model.objects.all().delete()
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    said = {**texts(PeriodicTask, payload), "args": "[]", "kwargs": "{}", "headers": "{}"}
    entry = PeriodicTask.objects.create(**said, interval=every)
    timer = {**texts(Timer, payload), "missed": "all", "overlap": "skip"}
    timer["declared_json"] = json.dumps({payload: payload})
    Timer.objects.update_or_create(pk=entry.pk, defaults=timer)
    Slot.objects.create(
        entry_id=entry.pk, slot_at=now, outcome_id=outcome.pk, **texts(Slot, payload)
    )
    job = reverse("admin:tasks_app_schedule", args=[entry.pk])
    return [
        client.get(reverse("admin:tasks_app_periodic")),
        client.get(reverse("admin:tasks_app_periodic"), {"q": payload[:20]}),
        client.get(reverse("admin:tasks_app_periodic"), {"q": f"nothing {payload}"}),
        client.get(job),
        client.get(job, {"since": payload, "until": payload}),
    ]


def traces(client: Client, outcome: Outcome) -> list[Any]:
    """Answer for the pages that show a request and an object, whose texts are the payload, too."""
    payload, request_id = outcome.task_name, "request-of-a-stranger"
    # Equal lengths on every page: the marks of an axis are counted, too.
    began = timezone.now()
    ended = began + timedelta(seconds=1)
    WebRequest.objects.all().delete()
    WebRequest.objects.create(
        request_id=request_id,
        method=payload[:16],
        route=payload[:255],
        started_at=began,
        finished_at=ended,
    )
    again = Outcome.objects.get(pk=outcome.pk)
    again.pk = again.root_id = uuid7()
    again.request_id, again.created_at, again.finished_at = request_id, began, ended
    again.save(force_insert=True)
    run = {"number": 1, "fence": 1, "state": "failed", "started_at": began, "finished_at": ended}
    Attempt.objects.create(outcome=again, **run, **texts(Attempt, payload))
    user = get_user_model().objects.get()
    Subject.objects.create(outcome=again, model="auth.user", object_pk=str(user.pk))
    subject = reverse("admin:tasks_app_subject", args=["auth.user", user.pk])
    answers = [
        client.get(reverse("admin:tasks_app_trace", args=[request_id])),
        client.get(reverse("admin:tasks_app_traces")),
        client.get(reverse("admin:tasks_app_traces"), {"request_id": f"? {payload}"}),
        client.get(subject),
    ]
    again.delete()
    return answers


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_text_makes_an_element_or_an_attribute(superuser, name):
    """Each page is built of the same elements as with harmless texts, and links nowhere else."""
    harmless = hostile(HARMLESS)
    expected = [Shape(page) for page in pages(superuser, harmless)]
    Outcome.objects.all().delete()
    PausedQueue.objects.all().delete()
    found = [Shape(page) for page in pages(superuser, hostile(PAYLOADS[name]))]
    assert [shape.found for shape in found] == [shape.found for shape in expected]
    for shape in found:
        assert not [
            target
            for target in shape.targets
            if not target.startswith(("/", "?", "#", ".")) and target
        ]


def unsafe(text: str) -> set[str]:
    """Return the characters of a text that act on a terminal, or hide or turn what follows."""
    return {
        char
        for char in text
        if (unicodedata.category(char) in {"Cc", "Zl", "Zp"} and char != "\n") or char in DECEPTIVE
    }


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_text_acts_on_a_terminal(name):
    """What a command writes of a row is seen as what it is, and no line of it can be forged."""
    outcome = hostile(PAYLOADS[name])
    listed = tasks("list").output
    assert len(listed.splitlines()) == 2
    shown = tasks("show", outcome.pk, "--arguments").output
    assert not [
        line for line in shown.splitlines() if line.startswith(("2026-01-01", "Set-Cookie"))
    ]
    record_shown = tasks("show", outcome.pk, "--arguments", "--json").output
    assert json.loads(record_shown)["worker"] == PAYLOADS[name][:255]
    acted = [tasks(act, outcome.pk) for act in ("retry", "discard", "cancel")]
    written = [listed, shown, record_shown, tasks("list", "--json").output]
    assert not unsafe("".join([*written, *(typed.output + typed.errors for typed in acted)]))


@pytest.mark.django_db(transaction=True)
def test_the_doctor_speaks_of_hostile_rows_in_plain_words():
    """Names of tasks and queues that nobody declared are in its findings."""
    for payload in PAYLOADS.values():
        hostile(payload)
    Outcome.objects.update(state="pending", finished_at=None)
    found = tasks("doctor")
    assert "not declared here" in found.output
    assert not unsafe(found.output + found.errors)


@pytest.mark.django_db(transaction=True)
def test_an_error_is_one_line_of_the_log(caplog):
    """Whoever chooses the text of an exception cannot write a line of his own."""

    def helper(key: str, note: str = "") -> None:
        raise ValueError(PAYLOADS[note])

    for name in PAYLOADS:
        with caplog.at_level(logging.INFO, "tasks_app"), pytest.raises(ValueError):  # noqa: PT011
            by_hand.run(claimed(record.enqueue("key", name)), helper)
    lines = [each.getMessage() for each in caplog.records if each.name == "tasks_app"]
    assert len([line for line in lines if line.startswith("failed ")]) == len(PAYLOADS)
    assert not [line for line in lines if "\n" in line or unsafe(line)]


@pytest.mark.parametrize("header", ["id", "task"])
@pytest.mark.parametrize("name", ["lines", "a terminal's commands", "turned text"])
def test_a_message_cannot_write_lines_of_its_own(caplog, header, name):
    """Celery logs id and name of each message: one that would act there is dropped."""
    handled = []
    acknowledged = []
    message = SimpleNamespace(
        headers={"id": "1", "task": "x", header: PAYLOADS[name]},
        ack_log_error=lambda *args: acknowledged.append(args),
    )
    with caplog.at_level(logging.WARNING):
        guarded(handled.append, ())(message)
    assert not handled
    assert acknowledged
    assert not unsafe(caplog.text)
    assert len(caplog.records) == 1


VALUES = [
    "'",
    "' OR '1'='1",
    "1); DROP TABLE tasks_app_outcome;--",
    "\\",
    "%",
    "0",
    "-1",
    "9" * 30,
    "a" * 5000,
]

#: Parameters of a list that it knows, that Django knows, and that somebody may try.
PARAMETERS = [
    *("q", "o", "p", "e", "all", "state", "task", "queue", "request_id", "_popup", "_to_field"),
    *("periodic", "age", "duration", "owner", "before"),
    *(
        "_facets",
        "_changelist_filters",
        "state__exact",
        "id__in",
        "pk__regex",
        "id",
        "0",
        "__proto__",
    ),
    *(
        "task_name__icontains",
        "a__b__c__d",
        "replay_of__replay_of__error",
        "attempts__traceback__regex",
    ),
]

#: Lookups that would tell what a viewer may not see.
ORACLES = [
    "args_json__startswith",
    "kwargs_json__contains",
    "result_json__regex",
    "idempotency_key__startswith",
    "options_json__contains",
    "owner__password__startswith",
    "owner__username",
    "replay_of__kwargs_json__contains",
]


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_no_parameter_of_the_list_is_an_error_or_a_statement(superuser, parameter):
    """Whatever stands in the address: a page, a way back to it, or a refusal."""
    record.enqueue("key")
    before = list(Outcome.objects.values())
    for value in VALUES:
        response = superuser.get(reverse("admin:tasks_app_outcome_changelist"), {parameter: value})
        assert response.status_code in {200, 302, 400}, (value, response)
    assert list(Outcome.objects.values()) == before


@pytest.mark.parametrize("lookup", ORACLES)
def test_no_lookup_tells_what_the_page_hides(lookup):
    """Filtering by arguments would spell them out, letter by letter, to any viewer."""
    record.enqueue("key-of-somebody")
    client = Client()
    viewer = get_user_model().objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_outcome"))
    client.force_login(viewer)
    page = reverse("admin:tasks_app_outcome_changelist")
    for value in ('["key', '["nothing', "", "key"):
        assert client.get(page, {lookup: value}).status_code == 400
