"""Ids that come from outside are taken over whole or not at all: nothing of a bad one is kept."""

from __future__ import annotations

import asyncio
import logging
import re
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

import tasks_app
from tasks_app import worker
from tasks_app.context import ACCEPTED
from tasks_app.middleware import RequestIDMiddleware
from tasks_app.models import Outcome
from tests.testapp.tasks import add

logger = logging.getLogger("tests.security")

MADE = re.compile(r"[0-9a-f]{32}\Z")

GOOD = ["x" * 8, "x" * 64, "A-z_0.9-", "........"]

BAD = {
    "nothing": "",
    "too short": "x" * 7,
    "too long": "x" * 65,
    "ten kilobytes": "x" * 10_240,
    "a line end": "abcdefgh\n",
    "a line end before": "\nabcdefgh",
    "a header": "abcdefgh\r\nSet-Cookie: owned=1",
    "an escaped header": "abcdefgh%0d%0aSet-Cookie:owned=1",
    "a terminal's command": "abcdefgh\x1b[2J",
    "another one": "abcdefgh\x9b31m",
    "NUL": "abcdefgh\x00",
    "another alphabet": "\u0430bcdefgh",
    "wide digits": "\uff11" * 8,
    "turned text": "abcdefgh\u202e",
    "a space": "abcd efgh",
    "two of them": "abcdefgh,ijklmnop",
    "markup": "<script>alert(1)</script>",
    "a quote": "abcdefgh'\"",
}


def view(request: HttpRequest) -> HttpResponse:
    logger.warning("served %s", tasks_app.request_id())
    return HttpResponse(tasks_app.request_id())


async def aview(request: HttpRequest) -> HttpResponse:
    return view(request)


def ask(given: str) -> HttpResponse:
    request = RequestFactory().get("/", headers={"X-Request-ID": given})
    return RequestIDMiddleware(view)(request)


def ask_async(given: str) -> HttpResponse:
    as_sent = given.encode().decode("latin-1")
    request = AsyncRequestFactory().get("/", headers={"X-Request-ID": as_sent})
    return asyncio.run(RequestIDMiddleware(aview)(request))


@pytest.mark.parametrize("given", GOOD)
@pytest.mark.parametrize("get", [ask, ask_async])
def test_a_harmless_id_is_taken_over(get, given):
    """Eight to sixty-four letters, digits, dots, dashes and underscores."""
    response = get(given)
    assert (response.headers["X-Request-ID"], response.content.decode()) == (given, given)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("get", [ask, ask_async])
def test_any_other_id_is_replaced_as_a_whole(caplog, get, name):
    """The response, the code and its one log line have a new id and nothing of the old one."""
    with caplog.at_level(logging.WARNING, "tests.security"):
        response = get(BAD[name])
    made = response.headers["X-Request-ID"]
    assert MADE.fullmatch(made)
    assert response.content.decode() == made
    assert [each.getMessage() for each in caplog.records] == [f"served {made}"]
    assert not response.cookies


def test_the_rule_means_the_whole_text():
    """A line end at the end is not part of it, which `$` would let pass."""
    assert not ACCEPTED.fullmatch("abcdefgh\n")
    assert "$" not in ACCEPTED.pattern


@pytest.mark.django_db(transaction=True)
def test_an_id_in_a_message_is_not_believed():
    """Whoever can write to the broker gives the row no request id of his making."""
    for given in (*BAD.values(), "chosen-by-a-stranger"):
        message = foreign(given)
        assert worker.answer(add.name, add.options, add.run, message) == 3
        assert MADE.fullmatch(Outcome.objects.get(pk=message.id).request_id)


def foreign(request_id: str) -> Any:
    """Return a message as another program's `send_task` leaves it, with an id in every header."""
    names = ("X-Request-ID", "x-request-id", "request_id", "request-id", "correlation_id")
    headers = dict.fromkeys(names, request_id)
    nothing = (
        "callbacks",
        "errbacks",
        "chain",
        "chord",
        "root_id",
        "parent_id",
        "group",
        "group_index",
    )
    return SimpleNamespace(
        id=str(uuid4()),
        headers=headers,
        args=[1, 2],
        kwargs={},
        request_id=request_id,
        delivery_info={"routing_key": "celery"},
        **dict.fromkeys(nothing),
    )
