"""
The list of outcomes finds what it is asked for, says how far it looked, and tells no secret.

Every request goes through Django's client.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app import context, outcomes, stock, task
from tasks_app.admin import reach, searching
from tasks_app.admin.outcomes import OutcomeAdmin
from tasks_app.admin.reach import first_id
from tasks_app.leases import Lease
from tasks_app.models import Outcome, Stock
from tasks_app.options import declared
from tests.testapp import tasks
from tests.visitors import entered

pytestmark = pytest.mark.django_db

LIST = "/admin/tasks_app/outcome/"
READER = ("view_outcome", "view_outcome_arguments")

#: Session, user and permissions (4), the stock for tabs and for schedules (2), the queue that waits
#: and that there is no other (2), the page's ids and their rows (2).
STATEMENTS = 10


@pytest.fixture
def viewer() -> Client:
    """A client that may see outcomes, but not their arguments."""
    return entered()


@pytest.fixture
def reader() -> Client:
    """A client that may see arguments, too."""
    return entered(*READER)


def order(order_id: int, card_token: str = "", note: str = "", **more: Any) -> None:
    """Stand for a helper with a secret."""


@pytest.fixture
def ordering() -> Iterator[Any]:
    """A task that redacts an argument and makes its key of it."""
    made = task(order, name="tests.order", redact=["card_token"])
    yield made
    del declared["tests.order"]
    made.app.tasks.unregister("tests.order")


def shown(client: Client, **parameters: Any) -> list[str]:
    """Return the ids on the list's page, in its order."""
    response = client.get(LIST, parameters)
    assert response.status_code == 200, response
    return [str(row.pk) for row in response.context_data["cl"].result_list]


def problem(client: Client, term: str) -> str:
    """Return why a search found nothing, which its reader is told."""
    response = client.get(LIST, {"q": term})
    found: str = response.context_data["cl"].problem
    assert not response.context_data["cl"].result_list
    return found


def ended(outcome: Outcome, **values: Any) -> str:
    """Let an outcome succeed, with some columns as given; return its id."""
    claimed = outcomes.claim(outcome.id, frozenset({outcome.task_name}), "worker@host/1")
    outcomes.succeed(Lease.of(claimed), "1")
    Outcome.objects.filter(pk=outcome.pk).update(**values)
    return str(outcome.pk)


def take_stock() -> None:
    Stock.objects.get_or_create(pk=stock.ROW)
    stock.take()


def test_tabs_tell_what_was_counted(viewer):
    """Of all tasks or of the one that is looked at, with the time of the count; none is made up."""
    assert "Nothing has been counted yet" in viewer.get(LIST).content.decode()
    for number in range(3):
        tasks.add.enqueue(number, 1)
    ended(tasks.record.enqueue("a"))
    take_stock()
    tasks.add.enqueue(9, 9)
    changelist = viewer.get(LIST, {"state": "pending"}).context_data["cl"]
    counts = {tab.state: tab.count for tab in changelist.tabs}
    assert (counts[""], counts["pending"], counts["succeeded"]) == ("4", "3", "1")
    assert [tab.state for tab in changelist.tabs if tab.is_current] == ["pending"]
    changelist = viewer.get(LIST, {"task": tasks.record.name}).context_data["cl"]
    assert {tab.state: tab.count for tab in changelist.tabs}["pending"] == "0"


def test_what_was_pruned_is_no_part_of_a_tabs_number(viewer):
    """The totals have all that ever finished."""
    Stock.objects.create(
        pk=stock.ROW,
        taken_at=timezone.now(),
        totals_json='{"finished":{"a\\nfailed":1500},"pruned":{"a\\nfailed":300}}',
        recent_json='{"finished":{"a\\nfailed":10}}',
    )
    tabs = viewer.get(LIST).context_data["cl"].tabs
    assert {tab.state: tab.count for tab in tabs}["failed"] == "1,210"


def test_the_schedule_filter_knows_who_enqueued(viewer):
    """Any schedule, none, or one by its name, which need not be in the stock."""
    plain = tasks.add.enqueue(1, 2)
    for name in ("nightly", 'the "late" one'):
        tasks.add.apply_async((1, 2), headers={stock.SCHEDULE: name})
    late, nightly = Outcome.objects.order_by("-created_at", "-pk")[:2]
    assert shown(viewer, periodic="no") == [str(plain.pk)]
    assert set(shown(viewer, periodic="yes")) == {str(late.pk), str(nightly.pk)}
    assert shown(viewer, periodic="nightly") == [str(nightly.pk)]
    assert shown(viewer, periodic='the "late" one') == [str(late.pk)]
    assert shown(viewer, periodic="night") == []


def test_the_age_filter_reads_the_ids(viewer):
    """What was enqueued within that time, also where somebody chose the id."""
    now = timezone.now()
    ages = {"1h": 0.5, "24h": 20, "7d": 100, "older": 200}
    ids = {}
    for name, hours in ages.items():
        moment = now - timedelta(hours=hours)
        (old,) = tasks.add.enqueue_many([(1, 2)])
        Outcome.objects.filter(pk=old).update(id=first_id(moment), created_at=moment)
        ids[name] = str(first_id(moment))
    chosen = "ffffffff-ffff-4fff-8fff-ffffffffffff"
    tasks.add.apply_async((1, 2), task_id=chosen)
    Outcome.objects.filter(pk=chosen).update(created_at=now - timedelta(hours=2))
    assert set(shown(viewer, age="1h")) == {ids["1h"]}
    assert set(shown(viewer, age="24h")) == {ids["1h"], ids["24h"], chosen}
    assert set(shown(viewer, age="7d")) == {ids["1h"], ids["24h"], ids["7d"], chosen}


@pytest.mark.parametrize(
    ("value", "seconds"), [("1s", (0, 0.9)), ("10s", (1, 9)), ("1m", (10, 59)), ("long", (60, 900))]
)
def test_the_duration_filter_has_bounds_without_gaps(viewer, value, seconds):
    """From the first start to the end; of a run in progress, so far."""
    now = timezone.now()
    for span in (0, 0.9, 1, 9, 10, 59, 60, 900):
        ended(
            tasks.add.enqueue(1, 2),
            started_at=now - timedelta(seconds=span),
            finished_at=now,
            error=str(span),
        )
    running = tasks.record.enqueue("runs")
    outcomes.claim(running.id, frozenset({running.task_name}), "worker@host/1")
    Outcome.objects.filter(pk=running.pk).update(claimed_at=now - timedelta(seconds=20))
    found = Outcome.objects.filter(pk__in=shown(viewer, duration=value))
    assert {float(each.error) for each in found if each.pk != running.pk} == set(seconds)
    assert (running in found) == (value == "1m")


def test_outcomes_are_found_by_whom_they_belong_to(viewer):
    """Oneself, nobody, or a user by key or name; a name that nobody has is told."""
    me = get_user_model().objects.get()
    other = get_user_model().objects.create_user("other")
    mine, theirs, nobodys = (
        str(tasks.add.using(owner=owner).enqueue(1, 2).pk) for owner in (me, other, None)
    )
    assert shown(viewer, owner="me") == [mine]
    assert shown(viewer, owner="none") == [nobodys]
    assert shown(viewer, owner=other.pk) == shown(viewer, q="owner:other") == [theirs]
    assert shown(viewer, owner="' OR 1=1") == []
    assert problem(viewer, "owner:nobody-here") == "There is no user “nobody-here”."


def test_an_id_is_found_by_its_first_digits(viewer):
    """With or without dashes; what several ids begin with finds them all."""
    outcome = tasks.add.enqueue(1, 2)
    assert shown(viewer, q=outcome.pk.hex[:16]) == [str(outcome.pk)]
    neighbour = tasks.add.enqueue(3, 4)
    assert {str(outcome.pk), str(neighbour.pk)} == set(shown(viewer, q=str(outcome.pk)[:8]))
    assert "No outcome here" in problem(viewer, "00000000")


def test_a_key_finds_its_outcome_in_whatever_tab(viewer):
    """Also one whose task is not declared here any more; filters still hold."""
    outcome = tasks.record_once.enqueue("searched")
    tasks.record_once.enqueue("other")
    assert shown(viewer, q="record:searched") == [str(outcome.pk)]
    assert shown(viewer, q="record:searched", state="failed") == []
    Outcome.objects.filter(pk=outcome.pk).update(task_name="tests.gone")
    assert shown(viewer, q="record:searched") == [str(outcome.pk)]


def test_a_secret_is_not_found_by_the_key_that_was_made_of_it(reader):
    """The row's own text finds it: a hash. Whoever guesses the secret learns nothing."""
    outcome = tasks.charge.enqueue(7, card_token="tok_canary", mood="fine")
    assert outcome.idempotency_key.startswith("sha256:")
    assert "No outcome here" in problem(reader, "charge:7:tok_canary")
    assert shown(reader, q=outcome.idempotency_key) == [str(outcome.pk)]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("arg:order_id=7", {"by place", "by name"}),
        ("arg:0=7", {"by place"}),
        ("arg:order_id=8", {"as text"}),
        ("arg:order_id=77", {"longer"}),
        ("arg:2=late, = “quoted”", {"by place"}),
        ("arg:note=late, = “quoted”", {"by place"}),
        ("arg:order_id=6f1c7d0e-0000-4000-8000-000000000000", {"a UUID"}),
        ("arg:flag=true", {"more"}),
        ("arg:order_id=", set()),
    ],
)
def test_an_argument_is_found_as_it_was_passed(reader, ordering, term, found):
    """By name or place, whichever way it was passed, of whatever type it is."""
    made = {
        "by place": ordering.enqueue(7, "", "late, = “quoted”"),
        "by name": ordering.enqueue(order_id=7),
        "as text": ordering.enqueue(order_id="8"),
        "longer": ordering.enqueue(77),
        "a UUID": ordering.enqueue(first_uuid()),
        "more": ordering.enqueue(1, flag=True),
    }
    names = {str(outcome.pk): name for name, outcome in made.items()}
    assert {names[pk] for pk in shown(reader, q=term)} == found


def first_uuid() -> Any:
    return Outcome._meta.pk.to_python("6f1c7d0e-0000-4000-8000-000000000000")


def test_arguments_are_found_by_those_who_may_see_them_alone(viewer, ordering):
    """Others are told which permission they lack, whether or not there is such a call."""
    ordering.enqueue(7)
    told = {problem(viewer, f"arg:order_id={value}") for value in (7, 8)}
    assert told == {
        "To search by argument you need the permission “Can see arguments and results”."
    }


@pytest.mark.parametrize(
    "term",
    [
        "arg:card_token=tok_canary",
        "arg:password=tok_canary",
        "arg:1=tok_canary",
        "arg:note=tok_canary",
        "arg:card_token=***",
        "arg:1=***",
    ],
)
def test_no_search_tells_a_secret(reader, ordering, term):
    """Not by name, not by place, and not where it was passed a second time; found or not alike."""
    ordering.enqueue(7, "tok_canary", "tok_canary")
    ordering.enqueue(7, card_token="tok_canary", note="tok_canary", password="tok_canary")
    there = problem(reader, term)
    assert there
    Outcome.objects.all().delete()
    assert problem(reader, term) == there


def test_nothing_is_compared_with_arguments_of_an_unknown_task(reader, ordering):
    """Nobody knows which of them are secret."""
    ordering.enqueue(order_id=7)
    Outcome.objects.update(task_name="tests.gone")
    assert shown(reader, q="arg:order_id=7") == []


@pytest.mark.parametrize(
    ("term", "told"),
    [
        ("arg:order_id", "Write an argument as"),
        ("arg:=7", "Write an argument as"),
        ("arg:", "Write an argument as"),
        ("arg:password=x", "is redacted"),
        ("arg:" + "9" * 30 + "=x", "No outcome here"),
        ("x" * 300, "No outcome here"),
    ],
)
def test_a_bad_term_is_answered_with_a_reason(reader, term, told):
    """An empty page says why it is empty."""
    tasks.add.enqueue(1, 2)
    assert told in problem(reader, term)


def further(client: Client, **parameters: Any) -> Iterator[list[str]]:
    """Yield the ids of each look, following the link further back."""
    address = LIST
    while True:
        response = client.get(address, parameters)
        changelist = response.context_data["cl"]
        yield [str(row.pk) for row in changelist.result_list]
        if not changelist.further_back:
            return
        assert b"Look further back" in response.content
        address, parameters = LIST + changelist.further_back, {}


@pytest.mark.parametrize("state", ["", "succeeded", "pending"])
@pytest.mark.parametrize("how", ["filter", "argument"])
def test_a_look_is_bounded_and_leads_further_back(reader, monkeypatch, state, how):
    """The looks together find everything once, the newest first."""
    monkeypatch.setattr(reach, "REACH", 3)
    monkeypatch.setattr(reach, "FEW", 2)
    ids = []
    for number in range(12):
        outcome = tasks.add.enqueue(number % 2, number) if number % 3 else tasks.total.enqueue([])
        if state == "succeeded":
            ended(outcome)
        if number % 3 and (how == "filter" or not number % 2):
            ids.insert(0, str(outcome.pk))
    asked = {"task": tasks.add.name} if how == "filter" else {"q": "arg:a=0"}
    looks = list(further(reader, **({"state": state} if state else {}), **asked))
    assert len(looks) > 2
    assert [pk for look in looks for pk in look] == ids


def test_a_term_that_is_not_found_yet_may_be_found_further_back(reader, monkeypatch):
    """Its reader is told that there are older ones, and at the oldest that there are none."""
    monkeypatch.setattr(reach, "REACH", 3)
    for number in range(6):
        tasks.add.enqueue(number, 1)
    changelist = reader.get(LIST, {"q": "arg:a=99"}).context_data["cl"]
    assert changelist.problem.endswith("as far back as was looked; there are older ones.")
    changelist = reader.get(LIST + changelist.further_back).context_data["cl"]
    assert changelist.problem == "No outcome here matches “arg:a=99”."


def test_no_more_arguments_are_read_than_are_shown_quickly(reader, monkeypatch):
    """Where many calls are like the one that is looked for, the look ends earlier and says so."""
    monkeypatch.setattr(searching, "CANDIDATES", 2)
    monkeypatch.setattr("tasks_app.admin.outcome_list.CANDIDATES", 2)
    ids = [str(tasks.add.enqueue(1, number).pk) for number in range(5)]
    looks = list(further(reader, q="arg:a=1"))
    assert [pk for look in looks for pk in look] == ids[::-1]
    assert max(map(len, looks)) == 2


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({}, 0),
        ({"state": "failed"}, 0),
        ({"state": "pending"}, 1),
        ({"state": "pending", "task": tasks.record.name}, 1),
        ({"state": "failed", "task": tasks.add.name}, 1),
        ({"age": "7d", "duration": "1s", "periodic": "no", "owner": "none"}, 1),
        ({"request_id": "abcdefgh"}, 1),
        ({"q": "abcdefgh"}, 2),
        ({"q": "record:a"}, 4),
        ({"q": "arg:key=a"}, 2),
    ],
)
def test_what_a_page_of_the_list_costs(reader, monkeypatch, parameters, more):
    """Statements are pinned; none counts the table, reads large columns, or reads it all."""
    monkeypatch.setattr(OutcomeAdmin, "list_per_page", 2)
    costs = []
    for rows in (3, 6):
        with context.working_for("abcdefgh", None):
            for number in range(rows):
                ended(tasks.add.enqueue(number, 1), state="failed")
                tasks.record_once.enqueue("a")
                tasks.record.enqueue("a")
        with CaptureQueriesContext(connection) as captured:
            reader.get(LIST, parameters)
        sent = [query["sql"] for query in captured]
        costs.append(len(sent))
        table = [sql for sql in sent if 'FROM "tasks_app_outcome"' in sql]
        assert all("LIMIT" in sql for sql in table)
        assert not [sql for sql in sent if "COUNT(" in sql or '"result_json"' in sql]
    assert costs == [STATEMENTS + more] * 2


def test_an_act_from_a_tab_is_refused_with_a_reason_when_the_state_moved_on(reader):
    """The tab does not hide the outcome from the act: its user is told what became of it."""
    user = get_user_model().objects.get()
    user.user_permissions.add(Permission.objects.get(codename="cancel_outcome"))
    outcome = tasks.add.enqueue(1, 2)
    ended(outcome)
    form = {"action": "cancel", "_selected_action": [str(outcome.pk)], "index": "0", "post": "yes"}
    response = reader.post(f"{LIST}?state=pending", form)
    (message,) = get_messages(response.wsgi_request)
    assert "it is succeeded already" in str(message)


def test_progress_is_a_bar_with_its_number(viewer):
    """A total makes it a share; without one it is a number."""
    whole, part = tasks.add.enqueue(1, 2), tasks.add.enqueue(3, 4)
    Outcome.objects.filter(pk=whole.pk).update(progress_done=21, progress_total=50)
    Outcome.objects.filter(pk=part.pk).update(progress_done=1234)
    page = viewer.get(LIST).content.decode()
    assert '<progress max="1" value="0.4200" aria-label="progress">42%</progress>' in page
    assert ">1234</td>" in page


def test_the_wait_is_counted_from_when_it_was_due(viewer):
    """Not from when it was enqueued; a retry's due time, after the first start, is left alone."""
    outcome = tasks.add.enqueue(1, 2)
    now = timezone.now()
    times = {"created_at": now - timedelta(hours=2), "started_at": now - timedelta(minutes=30)}
    admin = viewer.get(LIST).context_data["cl"].model_admin
    for run_at, expected in (
        (now - timedelta(minutes=31), "1 min"),
        (now - timedelta(hours=3), "1:30 h"),
        (now, "1:30 h"),
    ):
        Outcome.objects.filter(pk=outcome.pk).update(run_at=run_at, **times)
        outcome.refresh()
        assert admin.wait(outcome) == expected
