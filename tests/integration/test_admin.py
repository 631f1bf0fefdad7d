"""
The admin shows outcomes to those who may see them, and acts for those who may act.

Every request goes through Django's client, and every promise is checked in the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app import context, outcomes, task
from tasks_app.admin import OutcomeAdmin
from tasks_app.leases import Failure, Lease
from tasks_app.models import Attempt, Outcome
from tasks_app.options import declared
from tasks_app.states import Reason
from tests.testapp import tasks

pytestmark = pytest.mark.django_db

LIST = "/admin/tasks_app/outcome/"
FORBIDDEN, FOUND, OK = 403, 302, 200

PAYLOAD = "<script>alert('x')</script>"
CANARY = "tok_canary_4242"

#: The permissions of all acts.
ACTING = tuple(f"{name}_outcome" for name in ("retry", "cancel", "replay", "discard", "move"))

#: Permissions beside being staff; None stands for nobody at all, "all" for a superuser.
RIGHTS: dict[str, Any] = {
    "anonymous": None,
    "staff": (),
    "viewer": ("view_outcome",),
    "writer": ("view_outcome", "add_outcome", "change_outcome", "delete_outcome"),
    "runner": ("view_outcome", "retry_outcome"),
    "canceller": ("view_outcome", "cancel_outcome"),
    "replayer": ("view_outcome", "replay_outcome"),
    "discarder": ("view_outcome", "discard_outcome"),
    "mover": ("view_outcome", "move_outcome"),
    "operator": ("view_outcome", *ACTING),
    "blind operator": ACTING,
    "superuser": "all",
}

#: Who may do what.
ACTORS = {
    "run_now": {"runner", "operator", "superuser"},
    "cancel": {"canceller", "operator", "superuser"},
    "replay": {"replayer", "operator", "superuser"},
    "discard": {"discarder", "operator", "superuser"},
    "move": {"mover", "operator", "superuser"},
}

PAGES = ("list", "detail", "history", "add", "change", "delete")

Enter = Callable[[str], Client]


def pay(order_id: int, card_token: str) -> None:
    """Stand for a helper with a secret."""


@pytest.fixture
def paying() -> Iterator[Any]:
    """A task that redacts an argument and makes its key of it."""
    made = task(pay, name="tests.pay", redact=["card_token"], idempotency_key="pay:{card_token}")
    yield made
    del declared["tests.pay"]
    made.app.tasks.unregister("tests.pay")


@pytest.fixture
def enter() -> Enter:
    """Log somebody in who has the rights of a kind of user."""

    def log_in(kind: str) -> Client:
        client, rights = Client(), RIGHTS[kind]
        if rights is None:
            return client
        user = get_user_model().objects.create_user(
            kind, is_staff=True, is_superuser=rights == "all"
        )
        if rights != "all":
            ours = Permission.objects.filter(content_type__app_label="tasks_app")
            user.user_permissions.set(ours.filter(codename__in=rights))
        client.force_login(user)
        return client

    return log_in


def claimed(outcome: Outcome) -> Outcome:
    running = outcomes.claim(outcome.id, frozenset({outcome.task_name}), "worker@host/1")
    assert running is not None
    return running


def failed(outcome: Outcome) -> Outcome:
    """Let an outcome fail for good, with a traceback."""
    failure = Failure("ValueError", "it broke", "Traceback:\n  line 1\nValueError: it broke")
    outcomes.fail(Lease.of(claimed(outcome)), Reason.NOT_RETRYABLE, failure)
    outcome.refresh()
    return outcome


def waiting() -> Outcome:
    return tasks.add.using(run_after=timedelta(hours=1)).enqueue(1, 2)


#: An outcome that the act is for.
READY: dict[str, Callable[[], Outcome]] = {
    "run_now": waiting,
    "cancel": waiting,
    "replay": lambda: failed(tasks.add.enqueue(1, 2)),
    "discard": waiting,
    "move": waiting,
}


def snapshot() -> list[Any]:
    """Return all rows that an act could have changed."""
    return [*Outcome.objects.order_by("pk").values(), *LogEntry.objects.values()]


def ask(client: Client, page: str, outcome: Outcome) -> Any:
    """Request a page; those that write are asked by POST."""
    address = reverse("admin:tasks_app_outcome_change", args=[outcome.pk])
    match page:
        case "list":
            return client.get(LIST)
        case "detail":
            return client.get(address)
        case "history":
            return client.get(reverse("admin:tasks_app_outcome_history", args=[outcome.pk]))
        case "add":
            return client.post(f"{LIST}add/", {"task_name": "tests.add"})
        case "change":
            return client.post(address, {"state": "succeeded"})
        case "delete":
            delete = reverse("admin:tasks_app_outcome_delete", args=[outcome.pk])
            return client.post(delete, {"post": "yes"})
    raise AssertionError(page)


def act(client: Client, action: str, *chosen: Outcome, **more: str) -> Any:
    """Send the list's form with some outcomes ticked, and say yes at once."""
    ticked = [str(outcome.pk) for outcome in chosen]
    form = {"action": action, "_selected_action": ticked, "index": "0", "post": "yes"}
    return client.post(LIST, {**form, "to_priority": "9", **more})


def told(response: Any) -> list[str]:
    """Return what the user is told."""
    return [str(message) for message in get_messages(response.wsgi_request)]


def expected_status(kind: str, page: str) -> int:
    if kind == "anonymous":
        return FOUND
    if kind in {"staff", "blind operator"} or page in {"add", "change", "delete"}:
        return FORBIDDEN
    return OK


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", RIGHTS)
def test_who_may_see_and_write_what(enter, kind, page):
    """Nobody writes an outcome by the admin's own forms; seeing needs the right to view."""
    outcome = waiting()
    client = enter(kind)
    before = snapshot()
    response = ask(client, page, outcome)
    assert response.status_code == expected_status(kind, page)
    if kind == "anonymous":
        assert response.headers["Location"].startswith("/admin/login/")
    assert snapshot() == before


@pytest.mark.parametrize("action", ACTORS)
@pytest.mark.parametrize("kind", RIGHTS)
def test_who_may_act(enter, kind, action):
    """An act needs its own right, and the right to view; a POST by hand is no way around."""
    outcome = READY[action]()
    client = enter(kind)
    before = snapshot()
    response = act(client, action, outcome)
    if kind in ACTORS[action]:
        assert response.status_code == FOUND
        assert snapshot() != before
        assert LogEntry.objects.get().object_id == str(outcome.pk)
        assert LogEntry.objects.get().user.username == kind
    else:
        assert snapshot() == before


@pytest.mark.parametrize("action", ACTORS)
@pytest.mark.parametrize("kind", RIGHTS)
def test_buttons_are_shown_to_those_who_may_press_them(enter, kind, action):
    """The page of an outcome offers what its reader may do."""
    response = ask(enter(kind), "detail", READY[action]())
    is_offered = f'value="{action}"'.encode() in response.content
    assert is_offered == (kind in ACTORS[action])


@pytest.mark.parametrize(
    ("make", "offered"),
    [
        (waiting, {"run_now", "cancel", "discard", "move"}),
        (lambda: claimed(tasks.add.enqueue(1, 2)), {"cancel"}),
        (READY["replay"], {"replay"}),
    ],
    ids=["pending", "running", "final"],
)
def test_buttons_that_would_be_refused_are_not_shown(enter, make, offered):
    """The page of an outcome offers what its state allows."""
    page = ask(enter("superuser"), "detail", make()).content.decode()
    assert {name for name in ACTORS if f'value="{name}"' in page} == offered


@pytest.mark.parametrize("action", [*ACTORS, "delete_selected"])
def test_an_act_is_never_a_get(enter, action):
    """A link cannot act, whatever it contains."""
    outcome = READY.get(action, waiting)()
    client = enter("superuser")
    before = snapshot()
    client.get(LIST, {"action": action, "_selected_action": str(outcome.pk), "index": "0"})
    assert snapshot() == before


def test_an_act_needs_the_token_of_the_form(enter):
    """Another site's form cannot act in an operator's name."""
    outcome = waiting()
    client = enter("superuser")
    client.handler.enforce_csrf_checks = True
    before = snapshot()
    assert act(client, "cancel", outcome).status_code == FORBIDDEN
    assert snapshot() == before


def test_delete_selected_is_not_there_even_for_a_superuser(enter):
    """Django's own action is filtered out with the right to delete."""
    outcome = waiting()
    act(enter("superuser"), "delete_selected", outcome, post="yes")
    assert Outcome.objects.filter(pk=outcome.pk).exists()


def test_run_now_makes_a_waiting_outcome_due(enter):
    """It is due at once, for the relay and for a claim."""
    outcome = waiting()
    response = act(enter("operator"), "run_now", outcome)
    assert told(response) == ["Made due now. (1)"]
    assert claimed(outcome).state == "running"


def test_cancel_ends_a_waiting_outcome_and_asks_a_running_one(enter):
    """Both are told in the object's history, with the name of the user in the reason."""
    pending, running = waiting(), claimed(tasks.add.enqueue(3, 4))
    client = enter("operator")
    response = act(client, "cancel", pending, running)
    assert told(response) == ["Cancelled. (2)"]
    pending.refresh()
    running.refresh()
    assert (pending.state, running.state) == ("cancelled", "running")
    assert running.cancel_requested_at is not None
    assert "operator" in pending.cancel_reason
    history = client.get(reverse("admin:tasks_app_outcome_history", args=[pending.pk]))
    assert b"Cancelled." in history.content


def test_replay_makes_a_new_outcome_that_belongs_to_the_operator(enter):
    """It is linked to the old one in both directions."""
    outcome = failed(tasks.add.enqueue(1, 2))
    client = enter("operator")
    act(client, "replay", outcome)
    again = Outcome.objects.get(replay_of=outcome)
    assert again.owner is not None
    assert again.owner.username == "operator"
    for one, other in ((outcome, again), (again, outcome)):
        link = reverse("admin:tasks_app_outcome_change", args=[other.pk])
        assert f'href="{link}"'.encode() in ask(client, "detail", one).content


@pytest.mark.parametrize(
    ("action", "move_on", "why"),
    [
        ("run_now", claimed, "it is running"),
        ("run_now", failed, "it is failed"),
        ("cancel", failed, "it is failed already"),
        ("cancel", lambda outcome: outcome.cancel(), "it is cancelled already"),
        ("cancel", lambda outcome: claimed(outcome).cancel(), "asked to stop already"),
        ("replay", lambda outcome: None, "only a final outcome can be replayed"),
        ("replay", claimed, "only a final outcome can be replayed"),
        ("discard", claimed, "only a pending outcome can be discarded"),
        ("move", failed, "only a pending outcome can be moved"),
    ],
)
def test_an_act_is_refused_when_the_outcome_has_moved_on(enter, action, move_on, why):
    """The page was older than the row: the user is told, nothing is changed or logged."""
    outcome = tasks.add.enqueue(1, 2)
    client = enter("superuser")
    client.get(LIST)
    move_on(outcome)
    before = snapshot()
    response = act(client, action, outcome)
    (message,) = told(response)
    assert why in message
    assert str(outcome.pk) in message
    assert snapshot() == before


def test_what_can_be_done_is_done_and_the_rest_is_named(enter):
    """One refusal does not stop the others; many refusals are summed up."""
    chosen = [waiting(), *(failed(tasks.add.enqueue(n, n)) for n in range(7))]
    response = act(enter("operator"), "cancel", *chosen)
    messages = told(response)
    assert messages[0] == "Cancelled. (1)"
    assert messages[-1] == "2 more were refused."
    assert len(messages) == 7


def test_replaying_a_task_that_is_gone_is_refused(enter):
    """A name that nobody registers any more is told, not raised."""
    outcome = failed(tasks.add.enqueue(1, 2))
    Outcome.objects.filter(pk=outcome.pk).update(task_name="tests.gone")
    response = act(enter("operator"), "replay", outcome)
    assert "No task 'tests.gone' is registered" in told(response)[0]


def test_nobody_acts_on_all_that_matches_before_he_was_told_how_many(enter):
    """Selecting across all pages leads to a page that says so, whatever else the form says."""
    ticked, _other = waiting(), waiting()
    before = snapshot()
    response = act(enter("superuser"), "cancel", ticked, select_across="1")
    assert b"<strong>2 outcomes</strong>" in response.content
    assert snapshot() == before


def hostile() -> Outcome:
    """An outcome, with an attempt, whose every text is a script."""
    now = timezone.now()
    outcome = Outcome.objects.create(
        task_name=PAYLOAD,
        queue=PAYLOAD,
        state="failed",
        reason=PAYLOAD,
        args_json=f'["{PAYLOAD}"]',
        kwargs_json=f'{{"{PAYLOAD}":"{PAYLOAD}"}}',
        result_json=f'"{PAYLOAD}"',
        error=PAYLOAD,
        idempotency_key=PAYLOAD,
        worker=PAYLOAD,
        cancel_reason=PAYLOAD,
        progress_done=1,
        progress_message=PAYLOAD,
        started_at=now,
        finished_at=now,
        request_id=PAYLOAD,
        root_id=uuid4(),
        group_id=PAYLOAD,
        options_json="",
    )
    Attempt.objects.create(
        outcome=outcome,
        number=1,
        fence=1,
        state="failed",
        worker=PAYLOAD,
        started_at=now,
        error_type=PAYLOAD,
        error=PAYLOAD,
        traceback=f"Traceback\n{PAYLOAD}",
        sentry_event_id="",
    )
    return outcome


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("page", ["list", "detail", "trace", "task", "queue", "search", "refusal"])
def test_no_text_of_an_outcome_becomes_markup(enter, page, is_known):
    """Whatever a caller, a helper or a broken row wrote is shown as text."""
    outcome = hostile()
    if is_known:
        outcome.task_name = "tests.testapp.helpers.record"
        outcome.save(update_fields=["task_name"])
    client = enter("superuser")
    match page:
        case "list":
            response = client.get(LIST)
        case "detail":
            response = ask(client, "detail", outcome)
        case "trace":
            response = client.get(LIST, {"request_id": PAYLOAD})
        case "task":
            response = client.get(LIST, {"task": PAYLOAD})
        case "queue":
            response = client.get(LIST, {"queue": PAYLOAD})
        case "search":
            response = client.get(LIST, {"q": PAYLOAD})
        case "refusal":
            act(client, "run_now", outcome)
            response = client.get(LIST)
    text = response.content.decode()
    assert response.status_code == OK
    assert "alert" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("page", ["list", "detail", "history", "refusal"])
@pytest.mark.parametrize("kind", ["viewer", "superuser"])
def test_a_redacted_value_is_on_no_page(enter, paying, kind, page):
    """Not even for a superuser, wherever in the row the value got to."""
    outcome = paying.enqueue(4711, card_token=CANARY)
    lease = Lease.of(claimed(outcome))
    outcomes.succeed(lease, f'{{"card_token":"{CANARY}","receipt":"for {CANARY}"}}')
    Outcome.objects.filter(pk=outcome.pk).update(
        progress_done=1, progress_message=f"charging {CANARY}"
    )
    client = enter(kind)
    if page == "refusal":
        act(client, "cancel", outcome)
    response = client.get(LIST) if page == "refusal" else ask(client, page, outcome)
    text = response.content.decode()
    assert CANARY not in text
    assert ("4711" in text) == (page == "detail" and kind == "superuser")


def test_arguments_and_results_need_a_right_of_their_own(enter):
    """Viewing an outcome is not viewing what was passed and returned."""
    outcome = tasks.record.enqueue("the-argument")
    outcomes.succeed(Lease.of(claimed(outcome)), '"the-result"')
    client = enter("viewer")
    page = ask(client, "detail", outcome).content
    assert b"the-argument" not in page
    assert b"the-result" not in page
    permission = Permission.objects.get(codename="view_outcome_arguments")
    get_user_model().objects.get().user_permissions.add(permission)
    page = ask(client, "detail", outcome).content
    assert b"the-argument" in page
    assert b"the-result" in page


def test_arguments_of_an_unknown_task_stay_masked(enter):
    """Nobody knows which of them are secret."""
    outcome = tasks.record.enqueue(CANARY)
    Outcome.objects.filter(pk=outcome.pk).update(task_name="tests.gone")
    assert CANARY.encode() not in ask(enter("superuser"), "detail", outcome).content


def test_attempts_are_shown_with_their_folded_tracebacks(enter):
    """Each ended run is a card; its traceback waits behind its last line."""
    outcome = failed(tasks.add.enqueue(1, 2))
    page = ask(enter("viewer"), "detail", outcome).content.decode()
    assert "<summary>ValueError: it broke</summary><pre>Traceback:" in page


def test_a_request_leads_to_all_that_it_caused(enter):
    """The link of the request id shows its outcomes and no others."""
    with context.working_for("abcdefgh", None):
        caused = [tasks.add.enqueue(1, n) for n in range(2)]
    other = tasks.add.enqueue(3, 4)
    client = enter("viewer")
    assert b'href="/admin/tasks_app/outcome/trace/abcdefgh/"' in client.get(LIST).content
    page = client.get(LIST, {"request_id": "abcdefgh"}).content.decode()
    assert all(str(outcome.pk) in page for outcome in caused)
    assert str(other.pk) not in page


@pytest.mark.parametrize("term", ["id", "request_id", "idempotency_key"])
def test_search_finds_by_id_request_id_and_key(enter, term):
    """Each by its whole value, with the spaces that a copied text brings."""
    with context.working_for("abcdefgh", None):
        outcome = tasks.record_once.enqueue("searched")
    other = tasks.add.enqueue(1, 2)
    page = enter("viewer").get(LIST, {"q": f" {getattr(outcome, term)} "}).content.decode()
    assert str(outcome.pk) in page
    assert str(other.pk) not in page


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("state", "failed"), ("task", "tests.testapp.helpers.add"), ("queue", "slow")],
)
def test_filters_narrow_the_list(enter, parameter, value):
    """State, task and queue, each offered without asking the table for its values."""
    found = failed(tasks.add.using(queue="slow").enqueue(1, 2))
    other = tasks.record.enqueue("other")
    page = enter("viewer").get(LIST, {parameter: value}).content.decode()
    assert str(found.pk) in page
    assert str(other.pk) not in page


def test_the_list_neither_counts_the_table_nor_reads_large_columns(enter, monkeypatch):
    """A table of a million rows costs what a page of it costs."""
    monkeypatch.setattr(OutcomeAdmin, "list_per_page", 2)
    for number in range(3):
        tasks.add.enqueue(number, number)
    client = enter("viewer")
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(20):
        tasks.add.enqueue(number, number)
    with CaptureQueriesContext(connection) as many:
        client.get(LIST)
    statements = [query["sql"] for query in many if "tasks_app_outcome" in query["sql"]]
    assert len(many) == len(few)
    assert not [sql for sql in statements if "COUNT(" in sql or "args_json" in sql]
    assert all("LIMIT" in sql for sql in statements)


def test_pages_lead_from_the_newest_to_the_oldest(enter, monkeypatch):
    """Whether there is another page is known by looking one row ahead."""
    monkeypatch.setattr(OutcomeAdmin, "list_per_page", 2)
    ids = sorted(str(tasks.add.enqueue(number, number).pk) for number in range(5))
    client = enter("viewer")
    pages = [client.get(LIST, {"p": number}).content.decode() for number in (1, 2, 3)]
    shown = [[pk for pk in reversed(ids) if pk in page] for page in pages]
    assert shown == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert ["?p=2" in pages[0], "?p=3" in pages[1], "?p=4" in pages[2]] == [True, True, False]


@pytest.mark.parametrize("page", ["0", "-3", "x", "99", "²", "9" * 30])
def test_a_page_that_does_not_exist_is_no_error(enter, page):
    """Django leads back to the first page, as in every list."""
    waiting()
    response = enter("viewer").get(LIST, {"p": page}, follow=True)
    assert response.status_code == OK
