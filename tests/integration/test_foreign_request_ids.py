"""
Beside django-guid, django-structlog or asgi-correlation-id there is one request id, not two.

The packages are the real ones. Their middleware stands outside ours, in Django's own handlers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import structlog
from asgi_correlation_id import CorrelationIdFilter, CorrelationIdMiddleware, correlation_id
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from celery.signals import before_task_publish, task_postrun, task_prerun
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django_guid import get_guid, set_guid
from django_guid.config import settings as guid_settings
from django_guid.integrations import CeleryIntegration
from django_guid.integrations.celery import signals as guid_signals
from django_guid.log_filters import CorrelationId

import tasks_app
from tasks_app import context, wiring, worker
from tasks_app.models import Outcome
from tests import trail
from tests.processes import ROOT, start_command, start_worker
from tests.servers.server import free_port
from tests.testapp.tasks import add, note_ids
from tests.waiting import wait_until

pytestmark = pytest.mark.urls(__name__)

OURS = "tasks_app.middleware.RequestIDMiddleware"
GUID = "django_guid.middleware.guid_middleware"
STRUCTLOG = "django_structlog.middlewares.RequestMiddleware"

#: Under which name `helpers.note_ids` tells of each middleware's id.
NAMES = {GUID: "guid", STRUCTLOG: "structlog"}

#: Seconds that anything may take on a busy machine.
PATIENCE = 90


# Importing them has connected them to every task of this process.
before_task_publish.disconnect(guid_signals.publish_task_from_worker_or_request)
task_prerun.disconnect(guid_signals.worker_prerun)
task_postrun.disconnect(guid_signals.clean_up)


def ids() -> dict[str, str | None]:
    """Return the id, ours and theirs, that the current code sees."""
    return {
        "ours": tasks_app.request_id(),
        "guid": get_guid(),
        "structlog": structlog.contextvars.get_contextvars().get("request_id"),
        "asgi": correlation_id.get(),
    }


def view(request: HttpRequest) -> HttpResponse:
    """Enqueue, and answer with the ids."""
    return JsonResponse({**ids(), "row": add.enqueue(1, 2).request_id})


async def aview(request: HttpRequest) -> HttpResponse:
    """Do the same in a coroutine."""
    row = await add.aenqueue(1, 2)
    # The thread that the event loop used outlives the test; its connection must not.
    await sync_to_async(connections.close_all)()
    return JsonResponse({**ids(), "row": row.request_id})


urlpatterns = [path("view/", view), path("aview/", aview)]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test does, no id outlives it."""
    yield
    assert set(ids().values()) == {None}


@pytest.fixture
def guid_options(monkeypatch: Any) -> Any:
    """The options of django-guid, which it reads once."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(guid_settings, "settings", options)
    return options


def get(client: type, **headers: str) -> Any:
    """Send a request through the sync or the async stack."""
    if client is Client:
        return Client().get("/view/", headers=headers)
    return asyncio.run(AsyncClient().get("/aview/", headers=headers))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("theirs", [GUID, STRUCTLOG])
def test_an_id_that_another_middleware_has_set_is_adopted(settings, client, theirs):
    """The code, the row and the response have theirs, whatever the client has sent."""
    settings.MIDDLEWARE = [theirs, OURS]
    response = get(client, **{"X-Request-ID": "id-of-the-client"})
    seen = response.json()
    assert seen["ours"] == seen[NAMES[theirs]] == seen["row"] == response.headers["X-Request-ID"]
    assert seen["ours"] != "id-of-the-client"
    assert response.headers.get("Correlation-ID", seen["ours"]) == seen["ours"]


@pytest.mark.django_db
@pytest.mark.parametrize("theirs", [GUID, STRUCTLOG])
def test_without_our_middleware_their_id_is_seen(settings, theirs):
    """`request_id()` and `enqueue` know the request all the same."""
    settings.MIDDLEWARE = [theirs]
    seen = get(Client).json()
    assert seen["ours"] == seen[NAMES[theirs]] == seen["row"]
    assert seen["row"]


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["short", "<script>alert(1)</script>", "x" * 65])
def test_an_id_of_theirs_that_we_would_refuse_is_replaced_for_them_too(
    settings, guid_options, given
):
    """A package that believes any header is overruled, also in the header that it sends itself."""
    guid_options["VALIDATE_GUID"] = False
    settings.MIDDLEWARE = [GUID, OURS]
    response = get(Client, **{"Correlation-ID": given})
    seen = response.json()
    assert seen["ours"] == seen["guid"] == seen["row"] == response.headers["Correlation-ID"]
    assert context.ACCEPTED.fullmatch(seen["ours"])
    settings.MIDDLEWARE = [GUID]
    assert get(Client, **{"Correlation-ID": given}).json()["ours"] is None


@pytest.mark.django_db
def test_all_packages_agree_on_one_id(settings):
    """Whichever of them made it."""
    settings.MIDDLEWARE = [GUID, STRUCTLOG, OURS]
    response = get(Client)
    seen = response.json()
    assert seen["ours"] == seen["guid"] == seen["structlog"] == seen["row"]
    assert response.headers["Correlation-ID"] == response.headers["X-Request-ID"] == seen["ours"]


def ask(name: str = "X-Request-ID", **headers: str) -> tuple[list[bytes], dict[str, Any]]:
    """Send a request through asgi-correlation-id; return the id's headers and the body."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/aview/",
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
    }
    application = CorrelationIdMiddleware(ASGIHandler(), header_name=name)

    async def talk() -> tuple[Any, Any]:
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(timeout=PATIENCE)
        body = await communicator.receive_output(timeout=PATIENCE)
        await communicator.wait(timeout=PATIENCE)
        return start, body

    start, body = asyncio.run(talk())
    sent = [value for key, value in start["headers"] if key.lower() == b"x-request-id"]
    return sent, json.loads(body["body"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("given", [{}, {"X-Request-ID": uuid4().hex}, {"X-Request-ID": "no-uuid!"}])
@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID"])
def test_an_id_from_around_django_is_adopted(settings, name, given):
    """asgi-correlation-id stands outside the whole handler; its header is not sent twice."""
    settings.MIDDLEWARE = [OURS]
    sent, seen = ask(name, Host="testserver", **given)
    assert seen["ours"] == seen["asgi"] == seen["row"]
    assert sent == [seen["ours"].encode()]


@pytest.mark.django_db(transaction=True)
def test_without_our_middleware_an_id_from_around_django_is_seen(settings):
    """`request_id()` and `enqueue` know the request all the same."""
    settings.MIDDLEWARE = []
    _, seen = ask(Host="testserver")
    assert seen["ours"] == seen["asgi"] == seen["row"]
    assert seen["row"]


@pytest.mark.django_db
def test_a_message_cannot_set_the_id_through_another_package():
    """What django-guid takes from a message's headers is not believed when a row is made of it."""
    nothing = ("callbacks", "errbacks", "chain", "chord", "root_id", "parent_id", "group")
    request = SimpleNamespace(
        id=str(uuid4()),
        headers={"Correlation-ID": "chosen-by-a-stranger"},
        args=[1, 2],
        kwargs={},
        delivery_info={"routing_key": "celery"},
        group_index=None,
        **dict.fromkeys(nothing),
    )
    set_guid("chosen-by-a-stranger")
    try:
        assert worker.answer(add.name, add.options, add.run, request) == 3
        assert get_guid() == "chosen-by-a-stranger"
    finally:
        set_guid(None)
    assert Outcome.objects.get().request_id != "chosen-by-a-stranger"


def test_a_task_that_celery_runs_eagerly_leaves_their_id_in_the_request(guid_options):
    """django-guid's signals clear its id after a task; the request that called it goes on."""
    guid_options["INTEGRATIONS"] = [CeleryIntegration()]
    key = uuid4().hex
    try:
        task_prerun.connect(guid_signals.worker_prerun)
        task_postrun.connect(guid_signals.clean_up)
        with context.working_for("request-of-the-web", None):
            note_ids.apply((), {"key": key})
            assert ids() == dict.fromkeys(ids(), "request-of-the-web")
    finally:
        task_prerun.disconnect(guid_signals.worker_prerun)
        task_postrun.disconnect(guid_signals.clean_up)
    (line,) = trail.left(key)
    assert {line[name] for name in ids()} == {"request-of-the-web"}


@pytest.mark.parametrize("log_filter", [CorrelationId(), CorrelationIdFilter()])
def test_their_log_filters_show_the_id_of_a_run(log_filter):
    """Their fields of a line are filled from the same id."""
    record = logging.makeLogRecord({"msg": "a line"})
    with context.working_for("request-of-a-task", None):
        log_filter.filter(record)
    assert record.correlation_id == "request-of-a-task"


CALLER = """
import sentry_sdk
from tasks_app import context
from tests.testapp.tasks import note_ids
assert "celery" in sentry_sdk.get_client().integrations
for name in ("first-request", "second-request"):
    with context.working_for(name, None), sentry_sdk.start_transaction(op="test", name=name):
        note_ids.apply_async(kwargs={{"key": "{key}", "until": 2}}, headers={{"of": "the-caller"}})
"""


@pytest.fixture(scope="module")
def lines(
    tmp_path_factory: Any, django_db_setup: None, django_db_blocker: Any
) -> Iterator[list[dict[str, Any]]]:
    """What the attempts of two requests' tasks saw in one process, in which Sentry is at work."""
    folder, key = tmp_path_factory.mktemp("beside"), uuid4().hex
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.integration.settings_beside_others",
        "TASKS_TEST_SENTRY": json.dumps(
            {"dsn": f"http://key@127.0.0.1:{free_port()}/1", "traces_sample_rate": 1.0}
        ),
    }
    call = ("shell", "-c", CALLER.format(key=key))
    with (
        django_db_blocker.unblock(),
        start_worker(folder, pool="solo", environment=environment),
        start_command(folder, *call, name="caller", environment=environment) as caller,
    ):
        ended = Outcome.objects.filter(state="succeeded", task_name=note_ids.name)
        wait_until(lambda: ended.count() == 2, PATIENCE, caller.tail)
        yield trail.left(key)
        Outcome.objects.all().delete()


def test_sentry_does_not_lose_the_id(lines):
    """Its SDK nests and replaces the headers of messages; the id is not among them."""
    seen = sorted((line["ours"], line["attempt"]) for line in lines)
    assert seen == [(name, n) for name in ("first-request", "second-request") for n in (1, 2)]


@pytest.mark.parametrize("theirs", ["guid", "structlog", "asgi"])
def test_in_a_worker_other_packages_have_the_id_of_each_attempt(lines, theirs):
    """Also where their own signals have set another one for the message, as django-guid's do."""
    assert len(lines) == 4
    assert [line[theirs] for line in lines] == [line["ours"] for line in lines]


def test_packages_that_are_used_are_found(settings):
    """As an installed app or by their middleware; asgi-correlation-id by being there."""
    assert list(wiring.id_packages()) == [
        "django_guid",
        "django_structlog",
        "asgi_correlation_id",
    ]
    assert not wiring._is_in_settings("django_other")
    settings.MIDDLEWARE = ["django_other.middleware.RequestMiddleware"]
    assert wiring._is_in_settings("django_other")


def test_packages_that_are_not_used_are_not_loaded():
    """A project without them neither needs them nor pays for them."""
    code = """
import sys
for package in ("django_guid", "structlog", "django_structlog", "asgi_correlation_id"):
    sys.modules[package] = None
import django
django.setup()
from tasks_app import context
assert context.foreign == []
with context.working_for("abcdefgh", None):
    assert context.request_id() == "abcdefgh"
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
