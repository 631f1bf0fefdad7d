"""
One act on everything that a filter matches: each outcome once, whatever dies, and told in full.

The task is run as a worker would run it, on the real database; batches are of a few rows each.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import Ignore, Retry
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app import acts, bulk_actions, context, current, rescue
from tasks_app.models import BulkAction, Cause, Outcome
from tasks_app.selection import FIRST_ID, LAST_ID, Selection, SelectionError
from tasks_app.selection_texts import as_json, from_json, from_query
from tasks_app.states import State
from tasks_app.stock import SCHEDULE
from tests import by_hand
from tests.integration.command_line import ago, claimed, failed, rewritten
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db

#: Ids of which only the last has its time in the future.
FIRST, LAST = UUID(FIRST_ID), UUID(LAST_ID)

LIST = "/admin/tasks_app/outcome/"
CONFIRM = f"{LIST}bulk/confirm/"
OK, FOUND, BAD_REQUEST, FORBIDDEN, MISSING = 200, 302, 400, 403, 404

FAILED = Selection(states=(State.FAILED,))


@pytest.fixture
def user() -> Any:
    """An operator who may look, replay and cancel."""
    made = get_user_model().objects.create_user("operator", is_staff=True)
    rights = ("view_outcome", "replay_outcome", "cancel_outcome")
    made.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return made


@pytest.fixture
def client(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def waiting(number: int) -> list[Any]:
    later = tasks.add.using(run_after=timedelta(hours=1))
    return later.enqueue_many([(n, n) for n in range(number)])


def dead(number: int) -> list[Any]:
    """Enqueue calls and let all of them fail, in one statement."""
    ids = tasks.add.enqueue_many([(n, n) for n in range(number)])
    Outcome.objects.filter(pk__in=ids).update(
        state=State.FAILED, reason="not_retryable", finished_at=ago(minutes=1)
    )
    return ids


def through(bulk: BulkAction) -> BulkAction:
    """Do a bulk action to its end."""
    bulk_actions.work_through(bulk.pk)
    bulk.refresh_from_db()
    return bulk


def run(bulk: BulkAction) -> BulkAction:
    """Let a worker run a bulk action's task once; its keeper sees only what is committed."""
    bulk.refresh_from_db()
    outcome = Outcome.objects.get(pk=bulk.outcome_id)
    outcome.run_now()
    try:
        by_hand.run(claimed(outcome))
    finally:
        bulk.refresh_from_db()
    return bulk


def replays() -> list[Any]:
    """Return which outcomes were replayed, once for each time."""
    return sorted(Outcome.objects.exclude(replay_of=None).values_list("replay_of", flat=True))


def hidden(page: Any) -> dict[str, str]:
    """Return the hidden fields of the page's form that acts."""
    form = re.search(r'<form method="post" action="/admin/tasks.*?</form>', page, re.DOTALL)
    assert form is not None
    pairs = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.group())
    return {name: value.replace("&quot;", '"') for name, value in pairs}


def asked(client: Client, **query: Any) -> str:
    page = client.get(CONFIRM, query)
    assert page.status_code == OK
    return page.content.decode()


def say_yes(client: Client, page: str, **more: str) -> Any:
    return client.post(CONFIRM, {**hidden(page), **more})


def dying(monkeypatch: Any, name: str, nth: int) -> None:
    """Let the process die in the middle of the nth act."""
    count = 0
    act = acts.ACTS[name]

    def do(outcome: Outcome, user: Any, options: Any) -> str:
        nonlocal count
        count += 1
        told = act.do(outcome, user, options)
        if count == nth:
            raise RuntimeError("the process is gone")
        return told

    monkeypatch.setitem(bulk_actions.ACTS, name, replace(act, do=do))


# The engine


@pytest.mark.django_db(transaction=True)
def test_a_run_that_dies_in_a_batch_repeats_and_skips_nothing(user, monkeypatch):
    """What the batch had done is rolled back with it; the next run goes on where it stood."""
    ids = dead(250)
    bulk = bulk_actions.start(user, "replay", FAILED)
    with monkeypatch.context() as patch:
        dying(patch, "replay", 130)
        with pytest.raises(Retry):
            run(bulk)
    bulk.refresh_from_db()
    assert (bulk.done, bulk.cursor, bulk.finished_at) == (100, ids[99], None)
    assert replays() == sorted(ids[:100])
    run(bulk)
    assert (bulk.total, bulk.done, bulk.refused) == (250, 250, 0)
    assert bulk.finished_at is not None
    assert replays() == sorted(ids)
    assert Outcome.objects.get(pk=bulk.outcome_id).state == "succeeded"


def test_two_runs_at_once_meet_each_outcome_once(user, monkeypatch):
    """A run that was overtaken moves the cursor from where it no longer is: its batch is void."""
    monkeypatch.setattr(bulk_actions, "BATCH", 3)
    ids = dead(7)
    bulk = bulk_actions.start(user, "replay", FAILED)
    overtaken = BulkAction.objects.get(pk=bulk.pk)
    bulk_actions._take_turn(bulk)
    bulk_actions._take_turn(overtaken)
    assert replays() == sorted(ids[:3])
    through(bulk)
    assert replays() == sorted(ids)
    assert bulk.done == 7


@pytest.mark.django_db(transaction=True)
def test_a_lost_worker_costs_nothing(user, monkeypatch):
    """The rescued outcome runs again, and the action goes on."""
    monkeypatch.setattr(bulk_actions, "BATCH", 2)
    ids = dead(5)
    bulk = bulk_actions.start(user, "replay", FAILED)
    lost = claimed(Outcome.objects.get(pk=bulk.outcome_id))
    bulk_actions._take_turn(bulk)
    by_hand.let_lease_run_out(lost)
    assert rescue.run_once() == 1
    run(bulk)
    assert replays() == sorted(ids)


def test_what_came_or_ended_after_it_was_asked_for_is_not_met(user):
    """Neither outcomes enqueued since, nor old ones that came to match since."""
    ids = dead(2)
    still_waiting = tasks.add.enqueue(1, 2)
    bulk = bulk_actions.start(user, "replay", FAILED)
    rewritten(failed(tasks.add.enqueue(3, 4)))
    rewritten(failed(still_waiting), finished_at=timezone.now() + timedelta(seconds=1))
    through(bulk)
    assert replays() == sorted(ids)
    assert (bulk.total, bulk.done) == (2, 2)


def test_what_moved_on_is_left_out_or_refused_with_a_reason(user, monkeypatch):
    """Before its batch was read it no longer matches; after that the act itself refuses."""
    first, second, third = waiting(3)
    bulk = bulk_actions.start(user, "cancel", Selection(states=(State.PENDING,)))
    Outcome.objects.get(pk=first).cancel()
    sound = bulk_actions._next_ids

    def next_ids(*given: Any) -> Any:
        ids = sound(*given)
        if second in ids:
            Outcome.objects.get(pk=second).discard()
        return ids

    monkeypatch.setattr(bulk_actions, "_next_ids", next_ids)
    through(bulk)
    assert (bulk.total, bulk.done, bulk.refused) == (3, 1, 1)
    assert json.loads(bulk.refusals_json) == [[str(second), "it is failed already."]]
    assert Outcome.objects.get(pk=third).state == "cancelled"


def test_an_aborted_action_stops_after_its_batch(user, monkeypatch):
    """What was done stays done, and the rest is not touched."""
    monkeypatch.setattr(bulk_actions, "BATCH", 3)
    ids = waiting(8)
    bulk = bulk_actions.start(user, "cancel", Selection(states=(State.PENDING,), ids=tuple(ids)))
    bulk_actions._take_turn(bulk)
    claimed(Outcome.objects.get(pk=bulk.outcome_id))
    assert bulk_actions.abort(bulk, user)
    assert not bulk_actions.abort(bulk, user)
    bulk_actions._take_turn(BulkAction.objects.get(pk=bulk.pk))
    bulk.refresh_from_db()
    assert (bulk.done, bulk.stop_reason) == (3, "It was aborted by operator.")
    assert bulk.finished_at is not None
    assert Outcome.objects.filter(state="cancelled").count() == 3


def test_an_abort_between_reading_a_batch_and_doing_it_is_heard(user):
    """The guard of the cursor asks for it too."""
    dead(3)
    bulk = bulk_actions.start(user, "replay", FAILED)
    stale = BulkAction.objects.get(pk=bulk.pk)
    claimed(Outcome.objects.get(pk=bulk.outcome_id))
    bulk_actions.abort(bulk, user)
    bulk_actions._do_batch(stale, acts.REPLAY, user, [Outcome.objects.earliest("pk").pk])
    assert replays() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_running", [False, True])
def test_cancelling_its_own_outcome_ends_it(user, monkeypatch, is_running):
    """Waiting it never begins; running it stops after the batch, and says why."""
    monkeypatch.setattr(bulk_actions, "BATCH", 3)
    dead(8)
    bulk = bulk_actions.start(user, "replay", FAILED)
    outcome = Outcome.objects.get(pk=bulk.outcome_id)
    if is_running:

        def helper(bulk_id: Any) -> Any:
            bulk_actions._take_turn(bulk)
            by_hand.elsewhere(outcome.cancel)
            wait_until(lambda: current.cancelled, 30, "current.cancelled")
            return bulk_actions.work_through(bulk_id)

        with pytest.raises(Ignore):
            by_hand.run(claimed(outcome), helper)
    else:
        outcome.cancel()
    bulk.refresh_from_db()
    assert bulk.stop_reason == "Its task was cancelled."
    assert bulk.finished_at is not None
    assert len(replays()) == (3 if is_running else 0)


def test_a_permission_that_is_gone_stops_it(user, monkeypatch):
    """It is asked before each batch, and the row says so."""
    monkeypatch.setattr(bulk_actions, "BATCH", 3)
    dead(8)
    bulk = bulk_actions.start(user, "replay", FAILED)
    bulk_actions._take_turn(bulk)
    user.user_permissions.remove(Permission.objects.get(codename="replay_outcome"))
    through(bulk)
    assert (bulk.done, bulk.stop_reason) == (3, "operator has lost the permission for it.")
    assert len(replays()) == 3


@pytest.mark.parametrize("name", ["is_active", "deleted"])
def test_a_user_who_is_gone_does_nothing(user, name):
    """Neither one who was deactivated nor one who was deleted."""
    dead(1)
    bulk = bulk_actions.start(user, "replay", FAILED)
    if name == "deleted":
        user.delete()
    else:
        type(user).objects.update(is_active=False)
    through(bulk)
    assert bulk.stop_reason
    assert replays() == []


def test_nobody_starts_what_he_may_not_do(user):
    """The function asks, whatever page called it."""
    dead(1)
    with pytest.raises(PermissionDenied):
        bulk_actions.start(user, "discard", FAILED)
    with pytest.raises(SelectionError):
        bulk_actions.start(user, "replay", Selection(states=(State.EXPIRED,)))
    assert not BulkAction.objects.exists()


def test_its_beginning_and_its_end_are_in_the_history(user):
    """With the filter and the counts."""
    dead(2)
    bulk = through(bulk_actions.start(user, "replay", FAILED))
    entries = LogEntry.objects.order_by("pk")
    assert {(each.object_id, each.user) for each in entries} == {(str(bulk.pk), user)}
    assert [each.get_change_message() for each in entries] == [
        "Started: Replay as new, 2 outcomes (state failed).",
        "Ended: 2 done, 0 refused, of 2.",
    ]


@pytest.mark.parametrize(
    ("name", "each"), [("replay", 7), ("cancel", 6), ("discard", 6), ("run_now", 3), ("move", 3)]
)
def test_a_batch_costs_so_many_statements(user, monkeypatch, name, each):
    """A few for each outcome, and a few for the batch, however many match."""
    user.is_superuser = True
    user.save()
    monkeypatch.setattr(bulk_actions, "BATCH", 20)
    _ids = dead(25) if name == "replay" else waiting(25)
    bulk = bulk_actions.start(user, name, Selection(), {"priority": 9} if name == "move" else {})
    Outcome.objects.filter(pk=bulk.outcome_id).update(run_at=ago(minutes=1))
    with CaptureQueriesContext(connection) as captured:
        bulk_actions._take_turn(bulk)
    bulk.refresh_from_db()
    assert bulk.done == bulk_actions.BATCH
    assert len(captured) <= each * bulk_actions.BATCH + 12


# The acts


def test_a_discarded_outcome_fails_and_can_be_replayed(user):
    """With its reason and who did it; what was to follow fails with it."""
    outcome = tasks.add.enqueue(1, 2)
    assert outcome.discard(by=user)
    assert (outcome.state, outcome.reason) == ("failed", "discarded")
    assert outcome.error == "Discarded (by operator)"
    assert not outcome.discard()
    assert outcome.replay().replay_of == outcome


def test_a_moved_outcome_is_announced_anew(user):
    """At once where it is due, and else when its time has come."""
    due, later = tasks.add.enqueue(1, 2), tasks.add.using(run_after=3600).enqueue(1, 2)
    for outcome in (due, later):
        rewritten(outcome, announced=3, announce_at=timezone.now() + timedelta(days=1))
        assert outcome.move(queue="slow", priority=2)
        assert (outcome.queue, outcome.priority, outcome.announced) == ("slow", 2, 0)
    assert due.announce_at <= timezone.now() + timedelta(seconds=1)
    assert later.announce_at == later.run_at
    assert due.move(priority=3)
    assert (due.queue, due.priority) == ("slow", 3)
    assert not claimed(due).move(queue="other")


# The selection as texts


def test_a_selection_is_kept_whole():
    """All of it comes back, with ages that mean the same later."""
    tasks.add.enqueue(1, 2)
    whole = Selection(
        states=(State.FAILED,),
        tasks=("a",),
        queues=("q",),
        older_than=timedelta(hours=1),
        newer_than=timedelta(days=1),
        request_id="r",
        idempotency_key="k",
        fingerprint="ab",
        owner="1",
        schedule="nightly",
        ran=(1, 10),
        id_range=(FIRST, LAST),
        ids=(Outcome.objects.get().pk,),
    )
    back = from_json(as_json(whole))
    assert back.created_until - back.created_after == timedelta(hours=23)
    assert back.as_of == back.created_until + timedelta(hours=1)
    blank = {
        "as_of": None,
        "older_than": None,
        "newer_than": None,
        "created_until": None,
        "created_after": None,
    }
    assert replace(back, **blank) == replace(whole, **blank)
    assert list(back.outcomes()) == []
    assert from_json(as_json(Selection(ids=()))) == Selection(ids=())


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "1", '"x"', '{"states": ["lost"]}', '{"everything": true}'),
        *('{"tasks": "ab"}', '{"ids": ["x"]}', '{"ids": 1}', '{"request_id": 1}'),
        *('{"request_id": "\\u0000"}', '{"created_until": "2026-01-01"}', '{"fingerprint": "%"}'),
        *('{"request_id": "\\ud800"}', "[" * 100_000, '{"queues": [1]}'),
    ],
)
def test_a_text_that_is_no_selection_is_refused(text):
    """It never becomes a wider one."""
    with pytest.raises(SelectionError):
        from_json(text)


@pytest.mark.parametrize(
    "query",
    [
        *(
            {"duration": "1h"},
            {"q": "arg:a=1"},
            {"q": "owner:nobody"},
            {"colour": "red"},
            {"state": "lost"},
            {"fingerprint": "%"},
            {"older_than": "x"},
        ),
        *({"request_id": ["a", "b"]}, {"action": "drop"}, {"age": "1h", "newer_than": "2h"}),
        *({"task": "a\0"}, {"q": "\0"}),
    ],
)
def test_an_address_that_no_selection_expresses_is_refused(client, query):
    """The page says so and offers nothing to press."""
    dead(1)
    page = client.get(CONFIRM, {"action": "replay", **query})
    assert page.status_code == BAD_REQUEST
    assert 'type="submit"' not in page.content.decode().partition("<main")[2]
    assert not BulkAction.objects.exists()


def test_an_address_of_the_list_selects_what_the_list_shows(user):
    """Each of its filters, and what its search finds first."""
    with context.working_for("abcdefgh", None):
        mine = tasks.record_once.using(owner=user).enqueue("one")
    other = tasks.add.using(queue="slow").enqueue(1, 2)
    rewritten(
        mine, created_at=ago(days=2), options_json=f'{{"headers":{{"{SCHEDULE}":"nightly"}}}}'
    )
    rewritten(other, state="succeeded", started_at=ago(seconds=5), finished_at=ago())
    for query, found in (
        ("state=pending", mine),
        ("state=pending&state=running&p=3&before=x", mine),
        (f"task={tasks.add.name}", other),
        ("queue=slow", other),
        ("age=24h", other),
        ("older_than=1d", mine),
        ("owner=me", mine),
        (f"owner={user.pk}", mine),
        ("owner=none", other),
        ("periodic=yes", mine),
        ("periodic=nightly", mine),
        ("periodic=no", other),
        ("duration=10s", other),
        ("request_id=abcdefgh", mine),
        ("q=abcdefgh", mine),
        ("q=owner:operator", mine),
        ("q=record:one", mine),
        (f"q={other.pk}", other),
        (f"q={str(other.pk)[:-2]}", other),
    ):
        selection = from_query(QueryDict(query), user)
        assert list(from_json(as_json(selection)).outcomes()) == [found], query
        assert str(selection) != str(Selection())
    for query in ("duration=1s", "periodic=night", "q=nothing", "owner=x"):
        assert list(from_query(QueryDict(query), user).outcomes()) == [], query


# The pages


def test_the_page_says_how_many_and_which_and_then_starts_it(client, user):
    """The count is exact, a sample is shown, and outcomes that came since are not met."""
    ids = dead(25)
    waiting(3)
    page = asked(client, action="replay", task=tasks.add.name)
    assert "<strong>25 outcomes</strong>" in page
    assert "(25 <span" in page
    assert "external effect" in page
    assert sum(f"{pk}/change" in page for pk in ids) == 20
    dead(2)
    response = say_yes(client, page)
    bulk = BulkAction.objects.get()
    assert response.headers["Location"] == reverse("admin:tasks_app_bulk_action", args=[bulk.pk])
    through(bulk)
    assert replays() == sorted(ids)
    assert Outcome.objects.filter(replay_of=ids[0], owner=user).count() == 1
    done = client.get(response.headers["Location"]).content.decode()
    assert "25 of 25" in done


def test_more_than_one_was_told_of_is_not_done(client):
    """If more match by the time that somebody says yes, they are asked again."""
    old = tasks.add.enqueue(1, 2)
    dead(2)
    page = asked(client, action="replay", state="failed")
    failed(old)
    again = say_yes(client, page)
    assert again.status_code == OK
    assert "3 match by now; nothing was done." in again.content.decode()
    assert not BulkAction.objects.exists()


def test_failures_of_one_cause_can_be_replayed(client):
    """The page of failures leads here with a fingerprint."""
    ids = dead(3)
    for pk in ids[:2]:
        Cause.objects.create(outcome_id=pk, fingerprint="ab12", failed_at=timezone.now())
    page = asked(client, action="replay", state="failed", fingerprint="ab12")
    assert "<strong>2 outcomes</strong>" in page
    say_yes(client, page)
    through(BulkAction.objects.get())
    assert replays() == sorted(ids[:2])


def test_what_was_ticked_is_asked_about_and_done_at_once(client):
    """Each with a line in its history, and back to the list as it was filtered."""
    ids = [*waiting(2), *dead(1)]
    form = {"action": "cancel", "_selected_action": ids, "index": "0"}
    page = client.post(f"{LIST}?state=pending", form).content.decode()
    assert "<strong>2 outcomes</strong>" in page
    assert "1 more matches and is left out" in page
    assert "CANCEL_GRACE" in page
    assert not Outcome.objects.filter(state="cancelled").exists()
    response = client.post(f"{CONFIRM}?state=pending", hidden(page))
    assert response.headers["Location"] == f"{LIST}?state=pending"
    assert set(Outcome.objects.filter(state="cancelled").values_list("pk", flat=True)) == set(
        ids[:2]
    )
    assert set(LogEntry.objects.values_list("object_id", flat=True)) == set(map(str, ids[:2]))
    (refused,) = (m for m in get_messages(response.wsgi_request) if m.level_tag == "error")
    assert "it is failed already." in str(refused)


def test_without_an_act_the_page_offers_those_that_one_may_do(client):
    """The way in for who has no JavaScript."""
    dead(2)
    page = asked(client, state="failed")
    assert 'href="?state=failed&amp;action=replay"' in page
    assert "Discard" not in page


def test_moving_asks_where_to(client, user):
    """An unusable place is told on the page, and nothing is moved."""
    user.user_permissions.add(Permission.objects.get(codename="move_outcome"))
    (pk,) = waiting(1)
    form = {"action": "move", "_selected_action": pk}
    page = client.post(CONFIRM, form).content.decode()
    for place in ({}, {"to_priority": "11"}, {"to_priority": "²"}, {"to_queue": "a\nb"}):
        again = say_yes(client, page, **place)
        assert 'role="alert"' in again.content.decode()
    assert Outcome.objects.get(pk=pk).queue != "slow"
    response = say_yes(client, page, to_queue="slow", to_priority="9")
    assert response.headers["Location"] == f"{LIST}{pk}/change/"
    assert Outcome.objects.values_list("queue", "priority").get() == ("slow", 9)


def test_an_abort_is_a_post_by_who_may_act(client, user):
    """A page that is looked at aborts nothing."""
    dead(1)
    bulk = bulk_actions.start(user, "replay", FAILED)
    page = reverse("admin:tasks_app_bulk_action", args=[bulk.pk])
    assert b"Abort" in client.get(page).content
    user.user_permissions.remove(Permission.objects.get(codename="replay_outcome"))
    assert b"Abort" not in client.get(page).content
    assert client.post(page).status_code == FORBIDDEN
    bulk.refresh_from_db()
    assert bulk.abort_requested_at is None
    user.user_permissions.add(Permission.objects.get(codename="replay_outcome"))
    client.handler.enforce_csrf_checks = True
    assert client.post(page).status_code == FORBIDDEN
    client.handler.enforce_csrf_checks = False
    assert client.post(page).status_code == FOUND
    bulk.refresh_from_db()
    assert bulk.stop_reason == "It was aborted by operator."
    assert Outcome.objects.get(pk=bulk.outcome_id).state == "cancelled"
    assert LogEntry.objects.filter(change_message="Aborted.").count() == 1
    assert client.get(page.replace(str(bulk.pk), str(bulk.outcome_id))).status_code == MISSING


def test_the_pages_cost_the_same_for_few_and_for_many(client, user):
    """Counting what matches is one statement, and a list of actions is two."""
    confirm = {"action": "replay", "state": "failed"}
    seen = []
    for _ in range(2):
        dead(30)
        for _ in range(3):
            bulk = bulk_actions.start(user, "replay", FAILED)
        for page, query in (
            (CONFIRM, confirm),
            (f"{LIST}bulk/", {}),
            (reverse("admin:tasks_app_bulk_action", args=[bulk.pk]), {}),
        ):
            with CaptureQueriesContext(connection) as captured:
                assert client.get(page, query).status_code == OK
            seen.append([each["sql"] for each in captured if "tasks_app" in each["sql"]])
    assert [len(each) for each in seen] == [3, 2, 2] * 2


def test_where_it_stands_is_told(client, user):
    """Waiting, running, done, stopped, or left by a task that ended without it."""
    dead(1)
    pages = []
    bulk = bulk_actions.start(user, "replay", FAILED)
    pages.append(client.get(f"{LIST}bulk/").content.decode())
    outcome = claimed(Outcome.objects.get(pk=bulk.outcome_id))
    pages.append(client.get(f"{LIST}bulk/").content.decode())
    rewritten(outcome, state="failed", finished_at=ago(), lease_until=None)
    pages.append(client.get(f"{LIST}bulk/").content.decode())
    through(bulk_actions.start(user, "replay", FAILED))
    Outcome.objects.all().delete()
    pages.append(client.get(f"{LIST}bulk/").content.decode())
    told = ("waits for a worker", "runs", "stopped: its task is failed", "done")
    assert all(words in page for words, page in zip(told, pages, strict=True))
    assert "its task is gone" in pages[-1]
