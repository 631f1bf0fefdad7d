"""
Status for the people who wait: who sees an outcome, what is told of it, and who may cancel it.

How it is streamed is in `test_status_streams`, the bar on a page in `test_progress_bar`.
"""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from tasks_app import accepted, arguments, status_token, status_url
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tasks_app.redaction import STATUS_TOKEN, scrub
from tasks_app.status import tokens, views
from tests.integration.command_line import claimed, failed, rewritten, succeeded
from tests.testapp import tasks

pytestmark = pytest.mark.django_db

OK, ACCEPTED, SEE_OTHER, FORBIDDEN, MISSING, CONFLICT = 200, 202, 303, 403, 404, 409
PAGES = {"status": "", "events": "events", "cancel": "cancel"}
CANARY = "canary-card-4242"


def person(name: str, *permissions: str) -> Any:
    """Return a user with permissions of the app."""
    user = get_user_model().objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def logged_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def owner() -> Any:
    return person("owner")


@pytest.fixture
def outcome(owner) -> Outcome:
    """A pending outcome with an owner."""
    return rewritten(tasks.add.using(run_after=3600).enqueue(1, 2), owner=owner)


def page(outcome_id: UUID, name: str) -> str:
    return f"/tasks/{outcome_id}/{PAGES[name]}"


def ask(client: Client, outcome_id: UUID, name: str = "status", token: str = "") -> Any:
    """Ask for a page, as a client that takes JSON only."""
    headers = {"Accept": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    method = client.post if name == "cancel" else client.get
    return method(page(outcome_id, name), headers=headers)


def bearers(outcome: Outcome) -> dict[str, tuple[str, set[str]]]:
    """Return tokens, and the pages that each of them opens."""
    looking, all_pages = {"status", "events"}, set(PAGES)
    good = status_token(outcome)
    return {
        "for looking": (good, looking),
        "for cancelling": (status_token(outcome, may_cancel=True), all_pages),
        "by id": (status_token(outcome.id), looking),
        "for another": (status_token(uuid4(), may_cancel=True), set()),
        "expired": (status_token(outcome, may_cancel=True, max_age=0), set()),
        "about to expire": (status_token(outcome, max_age=timedelta(minutes=1)), looking),
        "cut": (good[:-1], set()),
        "longer": (good + "A", set()),
        "of other facts": (good.replace(".", "A.", 1), set()),
        "without a signature": (good.partition(".")[0], set()),
        "empty": (STATUS_TOKEN, set()),
        "not ASCII": ("t\u00fcr", set()),
        "another kind": (tokens.Signer(salt="other", sep=".").sign_object([1, 2, 3, 4]), set()),
    }


@pytest.mark.parametrize("way", ["header", "address"])
def test_a_token_opens_what_it_was_made_for(outcome, way):
    """Bound to its outcome, its time and its use; any other opens what none would."""
    for name, (token, opened) in bearers(outcome).items():
        for each in PAGES:
            if way == "header":
                answer = ask(Client(), outcome.id, each, token)
            else:
                method = Client().post if each == "cancel" else Client().get
                answer = method(f"{page(outcome.id, each)}?token={token}")
            if each in opened:
                assert answer.status_code in {OK, ACCEPTED}, (name, each)
            else:
                assert (answer.status_code, answer.content) == nothing(each), (name, each)


def nothing(name: str) -> tuple[int, bytes]:
    """Return the answer for an outcome that never was."""
    answer = ask(Client(), uuid4(), name)
    return answer.status_code, answer.content


USERS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "without permissions": ((), set()),
    "who may view": (("view_outcome",), {"status", "events"}),
    "who may cancel": (("cancel_outcome",), {"cancel"}),
    "who may both": (("view_outcome", "cancel_outcome"), {"status", "events", "cancel"}),
    "who may do all else": (
        ("retry_outcome", "replay_outcome", "view_outcome_arguments", "enqueue_outcome"),
        set(),
    ),
}


@pytest.mark.parametrize("name", USERS)
def test_another_user_sees_what_a_permission_opens(outcome, name):
    """Staff or not; whoever has none gets the very answer for an outcome that is not there."""
    permissions, opened = USERS[name]
    client = logged_in(person("other", *permissions))
    for each in PAGES:
        answer = ask(client, outcome.id, each)
        assert (answer.status_code in {OK, ACCEPTED}) == (each in opened), each
        if each not in opened:
            missing = ask(client, uuid4(), each)
            assert (answer.status_code, answer.content) == (missing.status_code, missing.content)
            assert answer.status_code == MISSING


def test_the_owner_sees_and_cancels(owner, outcome):
    """Without any permission; not once the account is closed."""
    client = logged_in(owner)
    assert ask(client, outcome.id).json()["state"] == "pending"
    assert ask(client, outcome.id, "cancel").json()["state"] == "cancelled"
    get_user_model().objects.update(is_active=False)
    assert ask(client, outcome.id).status_code == MISSING


def test_a_site_behind_a_login_lets_bearers_in(outcome, settings):
    """They have no account to log in to; strangers get no nearer for it."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    token = status_token(outcome, may_cancel=True)
    assert ask(Client(), outcome.id).status_code == MISSING
    assert {ask(Client(), outcome.id, name, token).status_code for name in PAGES} == {OK, ACCEPTED}


def test_an_outcome_without_an_owner_is_not_everybodys(outcome):
    """Nobody is the owner of what nobody owns."""
    rewritten(outcome, owner=None)
    assert ask(Client(), outcome.id).status_code == MISSING
    assert ask(logged_in(person("other")), outcome.id).status_code == MISSING
    request = RequestFactory().get("/")
    for nobody in (AnonymousUser(), get_user_model()(username="of a token, with no row")):
        request.user = nobody
        assert views.status(request, outcome.id).status_code == MISSING


def test_an_outcome_that_is_not_there_costs_strangers_the_same_statements(outcome):
    """Time tells no more than the answer does."""
    client = logged_in(person("other"))
    seen = []
    for outcome_id in (outcome.id, uuid4()):
        with CaptureQueriesContext(connection) as captured:
            assert ask(client, outcome_id).status_code == MISSING
        seen.append([query["sql"].split("WHERE")[0] for query in captured])
    assert seen[0] == seen[1]


def test_a_look_with_a_token_is_one_statement(outcome):
    """Whoever polls costs one row, found by its primary key."""
    for name in ("status", "events"):
        with CaptureQueriesContext(connection) as captured:
            assert ask(Client(), outcome.id, name, status_token(outcome)).status_code == OK
        assert len(captured) == 1
        assert "options_json" not in captured[0]["sql"]


def test_accepting_asks_no_database(outcome):
    """The answer is made of what the view has in its hand."""
    with CaptureQueriesContext(connection) as captured:
        accepted(outcome, RequestFactory().get("/"))
    assert not captured.captured_queries


def test_the_status_of_a_waiting_outcome(outcome):
    """State, times and where to go on; nothing of the call."""
    answer = ask(Client(), outcome.id, token=status_token(outcome))
    told = answer.json()
    assert told == {
        "id": str(outcome.id),
        "state": "pending",
        "is_final": False,
        "share": None,
        "text": "waiting",
        "reason": "",
        "progress": None,
        "attempt": 0,
        "cancel_requested": False,
        "created_at": outcome.created_at.isoformat(),
        "started_at": None,
        "finished_at": None,
        "links": {"status": page(outcome.id, "status"), "events": page(outcome.id, "events")},
    }
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]
    assert {"Accept", "Authorization", "Cookie"} <= set(answer.headers["Vary"].split(", "))


def test_the_link_to_cancel_is_for_those_who_may(owner, outcome):
    """And as long as there is something to cancel."""
    assert ask(logged_in(owner), outcome.id).json()["links"]["cancel"] == page(outcome.id, "cancel")
    outcome.cancel()
    assert "cancel" not in ask(logged_in(owner), outcome.id).json()["links"]


@pytest.mark.parametrize(
    ("progress", "share", "text"),
    [
        ((1, 4, "half of half"), 0.25, "running · 25% · half of half"),
        ((7, None, "rows"), None, "running · 7 done · rows"),
        ((0, 0, ""), None, "running · 0 done"),
        ((9, 4, ""), 1.0, "running · 100%"),
        ((-1, 4, ""), 0.0, "running · 0%"),
    ],
)
def test_progress_is_told_as_numbers_and_as_a_line(progress, share, text):
    """Whatever a helper reports, the bar stays within itself."""
    done, total, message = progress
    outcome = rewritten(
        claimed(tasks.add.enqueue(1, 2)),
        progress_done=done,
        progress_total=total,
        progress_message=message,
    )
    told = ask(Client(), outcome.id, token=status_token(outcome)).json()
    assert told["progress"] == {"done": done, "total": total, "message": message}
    assert (told["share"], told["text"]) == (share, text)


def test_the_result_is_for_those_who_may_read_it(owner):
    """The owner, a token made for it, and the permission to see arguments and results."""
    outcome = rewritten(succeeded(tasks.add.enqueue(1, 2), "3"), owner=owner)
    assert ask(logged_in(owner), outcome.id).json()["result"] == 3
    good = status_token(outcome, may_read_result=True)
    assert ask(Client(), outcome.id, token=good).json()["result"] == 3
    reader = person("reader", "view_outcome", "view_outcome_arguments")
    assert ask(logged_in(reader), outcome.id).json()["result"] == 3
    others = [
        ask(logged_in(person("viewer", "view_outcome")), outcome.id),
        ask(Client(), outcome.id, token=status_token(outcome, may_cancel=True)),
    ]
    for answer in others:
        assert answer.json()["state"] == "succeeded"
        assert "result" not in answer.json()


def test_results_survive_the_journey_into_a_browser(owner):
    """No number is rounded, no time is cut, and what JSON has no type for is a text."""
    value = {
        "large": 2**53,
        "small": -(2**53) + 1,
        "list": [2**63 - 1, True, None, 1.5],
        "price": Decimal("0.10"),
        "id": UUID(int=7),
        "span": timedelta(seconds=90),
    }
    text, _ = arguments.encode_result(value, max_bytes=10_000)
    outcome = rewritten(succeeded(tasks.add.enqueue(1, 2), text), owner=owner)
    assert ask(logged_in(owner), outcome.id).json()["result"] == {
        "large": "9007199254740992",
        "small": -9007199254740991,
        "list": ["9223372036854775807", True, None, 1.5],
        "price": "0.10",
        "id": "00000000-0000-0000-0000-000000000007",
        "span": "P0DT00H01M30S",
    }


def test_no_answer_has_a_secret_of_the_call(owner):
    """Not in the result, not in the message, not in the error, not for the owner."""
    told = []
    for number, ending in enumerate((succeeded, failed)):
        outcome = tasks.charge.enqueue(number, card_token=CANARY, mood="pay")
        ended = ending(outcome, json.dumps({"card": CANARY, "card_token": "x"}))
        columns = {"progress_done": 1, "progress_total": 2, "progress_message": f"with {CANARY}"}
        rewritten(ended, owner=owner, **columns)
        told += [ask(logged_in(owner), ended.id, name).content.decode() for name in PAGES]
    assert not [text for text in told if CANARY in text]
    assert '"card": "***", "card_token": "***"' in told[0]
    assert json.loads(told[3])["error"] == '{"card": "***", "card_token": "x"}'


def test_a_task_that_is_gone_shows_no_result(owner):
    """Nobody can say any more what in it was secret."""
    outcome = rewritten(
        succeeded(tasks.add.enqueue(1, 2), "3"), owner=owner, task_name="tests.gone"
    )
    assert ask(logged_in(owner), outcome.id).json()["result"] == "***"


def test_cancelling_asks_for_djangos_token(owner, outcome):
    """The form of another site cannot cancel with the cookies of who visits it."""
    client = logged_in(owner)
    client.handler.enforce_csrf_checks = True
    client.cookies["csrftoken"] = "a" * 32
    assert ask(client, outcome.id, "cancel").status_code == FORBIDDEN
    assert ask(client, uuid4(), "cancel").status_code == FORBIDDEN
    for token in (status_token(outcome), status_token(uuid4(), may_cancel=True)):
        assert ask(client, outcome.id, "cancel", token).status_code == FORBIDDEN
    outcome.refresh()
    assert outcome.state == "pending"
    form = {"csrfmiddlewaretoken": "a" * 32}
    assert client.post(page(outcome.id, "cancel"), form).status_code == ACCEPTED


def test_a_token_that_cancels_needs_no_cookie(outcome):
    """Whoever has it is no other site's form."""
    client = Client(enforce_csrf_checks=True)
    token = status_token(outcome, may_cancel=True)
    assert ask(client, outcome.id, "cancel", token).status_code == ACCEPTED
    outcome.refresh()
    assert outcome.state == "cancelled"


def test_cancelling_is_told_in_the_row_and_in_the_history(owner, outcome):
    """Who did it can be found out."""
    ask(logged_in(owner), outcome.id, "cancel")
    outcome.refresh()
    assert outcome.cancel_reason == "on request of who waited for it (by owner)"
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (owner, str(outcome.pk))
    assert entry.get_change_message() == "Cancelled."


def test_a_running_outcome_is_asked_to_stop(owner):
    """As often as somebody presses the button; the answer says that it was heard."""
    outcome = rewritten(claimed(tasks.add.enqueue(1, 2)), owner=owner)
    for _ in range(2):
        answer = ask(logged_in(owner), outcome.id, "cancel")
        assert answer.status_code == ACCEPTED
        told = answer.json()
        assert (told["state"], told["cancel_requested"]) == ("running", True)
        assert told["text"] == "stopping"


def test_what_has_ended_cannot_be_cancelled(owner):
    """The refusal says how it ended."""
    for ending, state in ((succeeded, "succeeded"), (failed, "failed")):
        outcome = rewritten(ending(tasks.add.enqueue(1, 2)), owner=owner)
        answer = ask(logged_in(owner), outcome.id, "cancel")
        assert answer.status_code == CONFLICT
        assert answer.json()["refusal"] == f"It is {state} already."
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/desk?a=1", SEE_OTHER),
        ("http://testserver/desk", SEE_OTHER),
        ("http://evil.example/", ACCEPTED),
        ("//evil.example/", ACCEPTED),
        ("javascript:alert(1)", ACCEPTED),
        ("", ACCEPTED),
    ],
)
def test_a_browser_without_javascript_goes_back_to_its_page(owner, outcome, address, expected):
    """And to no other site."""
    answer = logged_in(owner).post(
        page(outcome.id, "cancel"),
        {"next": address},
        headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
    )
    assert answer.status_code == expected
    assert answer.headers.get("Location", address) == address


def test_only_the_method_of_a_page_is_answered(owner, outcome):
    """A link cancels nothing, and a form reads nothing."""
    client = logged_in(owner)
    assert client.get(page(outcome.id, "cancel")).status_code == 405
    assert client.post(page(outcome.id, "status")).status_code == 405
    assert client.post(page(outcome.id, "events")).status_code == 405
    assert client.head(page(outcome.id, "status")).status_code == OK


def test_accepted_tells_where_to_follow(outcome):
    """The address is absolute for a request, and has no token in it."""
    rewritten(outcome, owner=None)
    answer = accepted(outcome, RequestFactory().get("/start"), retry_after=timedelta(seconds=5))
    told = json.loads(answer.content)
    assert (answer.status_code, answer.headers["Retry-After"]) == (ACCEPTED, "5")
    assert answer.headers["Location"] == f"http://testserver{page(outcome.id, 'status')}"
    assert told["links"]["events"] == f"http://testserver{page(outcome.id, 'events')}"
    assert (told["id"], told["state"]) == (str(outcome.id), "pending")
    assert ask(Client(), outcome.id, token=told["token"]).status_code == OK
    assert ask(Client(), outcome.id, "cancel", told["token"]).status_code == MISSING


def test_accepted_gives_no_token_for_what_somebody_owns(outcome):
    """Two visitors with one idempotency key get one outcome: it stays the first one's."""
    assert "token" not in json.loads(accepted(outcome).content)
    given = accepted(outcome, token=status_token(outcome, may_cancel=True))
    token = json.loads(given.content)["token"]
    assert ask(Client(), outcome.id, "cancel", token).status_code == ACCEPTED


def test_an_address_with_a_token_needs_no_escapes(outcome):
    """As it stands in a mail."""
    token = status_token(outcome)
    address = status_url(outcome, token)
    assert address == f"{page(outcome.id, 'status')}?token={token}"
    assert Client().get(address).status_code == OK
    assert status_url(outcome.id) == page(outcome.id, "status")


def test_a_token_is_good_for_as_long_as_the_settings_say(outcome, settings):
    """A day, unless they say otherwise."""
    settings.TASKS_APP = {"STATUS_TOKEN_AGE": timedelta(microseconds=1)}
    assert ask(Client(), outcome.id, token=status_token(outcome)).status_code == MISSING


def test_a_token_outlives_a_change_of_keys(outcome, settings):
    """As long as the old key is among the fallbacks."""
    token = status_token(outcome)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert ask(Client(), outcome.id, token=token).status_code == OK
    settings.SECRET_KEY_FALLBACKS = []
    assert ask(Client(), outcome.id, token=token).status_code == MISSING


def test_a_token_is_masked_in_every_text(outcome):
    """Whoever logs an address, or Sentry that sends one, shows none."""
    address = status_url(outcome, status_token(outcome))
    assert scrub(f"GET {address} 200", []) == f"GET {page(outcome.id, 'status')}?token=*** 200"


@pytest.mark.urls("tests.integration.urls_without_ours")
def test_without_addresses_the_error_says_which_line_to_add(outcome):
    """At the first use, not at a client's first look."""
    for use in (accepted, status_url):
        with pytest.raises(ConfigurationError, match=r'include\("tasks_app.urls"\)'):
            use(outcome)
