"""A web request that enqueued something leaves a row; no other does, and none is harmed by it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path

from tasks_app import own_request_id
from tasks_app.middleware import RequestIDMiddleware
from tasks_app.models import Outcome, WebRequest
from tasks_app.prune import prune
from tests.integration.command_line import ago, failed
from tests.testapp import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

ID = {"X-Request-ID": "request-of-a-test"}


def enqueueing(request, secret):
    tasks.add.enqueue(1, 2)
    return HttpResponse("ok", status=202)


def idle(request):
    return HttpResponse("ok")


def breaking(request):
    tasks.add.enqueue(1, 2)
    raise LookupError("a view that breaks")


def enqueueing_for_another(request):
    with own_request_id():
        tasks.add.enqueue(1, 2)
    return HttpResponse("ok")


def repeating(request):
    Outcome.objects.get().replay()
    return HttpResponse("ok")


def many(request):
    tasks.add.enqueue_many([(1, 2), (3, 4)])
    return StreamingHttpResponse(iter([b"a", b"b"]))


async def enqueueing_later(request):
    await asyncio.gather(asyncio.create_task(tasks.add.aenqueue(1, 2)))
    return HttpResponse("ok")


async def cancelled(request):
    await tasks.add.aenqueue(1, 2)
    raise asyncio.CancelledError


urlpatterns = [
    path("orders/<str:secret>/", enqueueing),
    path("idle/", idle),
    path("breaking/", breaking),
    path("another/", enqueueing_for_another),
    path("repeating/", repeating),
    path("many/", many),
    path("later/", enqueueing_later),
]


@pytest.fixture(autouse=True)
def first(settings):
    """Our middleware is the outermost."""
    settings.MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", *settings.MIDDLEWARE]


@contextmanager
def statements():
    seen = []
    with CaptureQueriesContext(connection) as captured:
        yield seen
    seen += [query["sql"] for query in captured.captured_queries]


def test_a_request_that_enqueues_leaves_a_row_without_its_path():
    """The row has the route, whose parts may be secrets, and times on the database's clock."""
    before = ago(seconds=1)
    response = Client().post("/orders/s3cret/?token=s3cret", headers=ID)
    row = WebRequest.objects.get()
    assert response.headers["X-Request-ID"] == row.request_id == ID["X-Request-ID"]
    assert (row.method, row.route, row.status) == ("POST", "orders/<str:secret>/", 202)
    assert before < row.started_at <= row.finished_at
    assert before < Outcome.objects.get().created_at <= row.finished_at


@pytest.mark.django_db(transaction=True)
def test_it_costs_one_statement_after_the_response():
    """No transaction is opened for it."""
    Client().get("/orders/1/")
    with statements() as sent:
        Client().get("/orders/1/", headers=ID)
    assert [sql.split()[0] for sql in sent] == ["INSERT", "INSERT"]
    assert WebRequest._meta.db_table in sent[-1]


@pytest.mark.parametrize("page", ["/idle/", "/missing/", "/another/"])
def test_a_request_that_enqueues_nothing_of_its_own_costs_no_statement(page):
    """Neither does one whose code enqueues for another request id."""
    Client().get("/idle/")
    with statements() as sent:
        Client().get(page)
    assert not [sql for sql in sent if WebRequest._meta.db_table in sql]
    assert not WebRequest.objects.exists()


def test_a_replay_belongs_to_the_request_of_its_original():
    """The request that asked for it has no trace of its own."""
    failed(tasks.add.enqueue(1, 2))
    Client().get("/repeating/", headers=ID)
    assert Outcome.objects.count() == 2
    assert not WebRequest.objects.exists()


def test_of_two_requests_with_one_id_the_first_is_kept():
    """A client that repeats itself changes nothing."""
    Client().get("/orders/1/", headers=ID)
    Client().get("/many/", headers=ID)
    assert WebRequest.objects.get().route == "orders/<str:secret>/"


def test_a_streamed_response_is_told_when_it_is_ready():
    """Its body may be made long after."""
    response = Client().get("/many/", headers=ID)
    assert WebRequest.objects.get().status == 200
    assert b"".join(response.streaming_content) == b"ab"


@pytest.mark.django_db(transaction=True)
def test_a_view_that_breaks_is_told_and_its_work_is_not_there(settings):
    """The row is written outside the view's transaction, which is rolled back."""
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        response = Client(raise_request_exception=False).get("/breaking/", headers=ID)
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert response.status_code == WebRequest.objects.get().status == 500
    assert not Outcome.objects.exists()


def test_an_exception_that_goes_through_leaves_a_row_without_a_status():
    """Nobody knows what the client was told."""
    request = RequestFactory().get("/", headers=ID)
    with pytest.raises(LookupError):
        RequestIDMiddleware(breaking)(request)
    assert WebRequest.objects.get().status is None


def test_an_async_view_is_told_too():
    """What a task of the event loop enqueues counts."""
    async_to_sync(AsyncClient().get)("/later/", headers=ID)
    row = WebRequest.objects.get()
    assert (row.route, row.status) == ("later/", 200)


def test_a_client_that_leaves_an_async_view_is_told_too():
    """Its coroutine is cancelled."""
    request = RequestFactory().get("/", headers=ID)
    with pytest.raises(asyncio.CancelledError):
        async_to_sync(RequestIDMiddleware(cancelled))(request)
    assert WebRequest.objects.get().status is None


def test_nothing_is_recorded_where_the_setting_says_so(settings):
    """The requests stay as they were."""
    settings.TASKS_APP = {"RECORD_REQUESTS": False}
    Client().get("/orders/1/")
    assert Outcome.objects.exists()
    assert not WebRequest.objects.exists()


def test_a_database_that_refuses_costs_nobody_a_response(caplog):
    """It is told at debug level."""

    def refuse(execute, sql, params, many, context):
        if WebRequest._meta.db_table in sql:
            raise DatabaseError("away")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), caplog.at_level(logging.DEBUG, "tasks_app"):
        assert Client().get("/orders/1/").status_code == 202
    told = [record for record in caplog.records if record.name == "tasks_app.web_requests"]
    assert [(record.levelname, record.getMessage()) for record in told] == [
        ("DEBUG", "A web request was not recorded: away")
    ]


def test_a_transaction_around_the_whole_request_survives():
    """As in the tests of a project: a failure does not spoil what else it has to do."""
    with transaction.atomic():
        WebRequest.objects.create(request_id="x" * 64, method="GET", started_at=ago(days=1))
        Client().get("/orders/1/", headers={"X-Request-ID": "x" * 64})
        assert Outcome.objects.count() == 1
    assert WebRequest.objects.get().route == ""


def test_requests_are_pruned_after_the_longest_finite_retention(settings):
    """Those of outcomes that are kept for ever go with the others."""
    settings.TASKS_APP = {
        "RETENTION": {
            "failed": None,
            "succeeded": timedelta(days=3),
            "cancelled": timedelta(days=1),
            "expired": timedelta(days=1),
        }
    }
    for days in (2, 4):
        WebRequest.objects.create(
            request_id=f"{days}-days-old", method="GET", started_at=ago(days=days)
        )
    list(prune())
    assert [row.request_id for row in WebRequest.objects.all()] == ["2-days-old"]
