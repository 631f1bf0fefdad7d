"""
One request id links a request to all that it causes.

Served by Django's own handlers: the test clients where a header can be sent through them, a real
socket where only raw bytes will do.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import make_server

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import WSGIRequestHandler
from django.db import connection, connections
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path

import tasks_app
from tasks_app import context
from tasks_app.middleware import RequestIDMiddleware
from tasks_app.models import Outcome
from tests.testapp import tasks

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("stack")]

MADE = re.compile(r"[0-9a-f]{32}")

#: Where two requests wait for each other, so that they are open at the same time.
meeting = threading.Barrier(2, timeout=10)


def show(request: HttpRequest) -> HttpResponse:
    """Answer with the id that the code sees."""
    return JsonResponse({"seen": tasks_app.request_id(), "attribute": request.request_id})


async def ashow(request: HttpRequest) -> HttpResponse:
    """Answer with the id that a coroutine and a thread of its own see."""
    inside = await sync_to_async(tasks_app.request_id)()
    return JsonResponse({"seen": tasks_app.request_id(), "inside": inside})


def meet(request: HttpRequest) -> HttpResponse:
    """Answer once another request is being answered, too."""
    before = tasks_app.request_id()
    meeting.wait()
    return JsonResponse({"before": before, "seen": tasks_app.request_id()})


async def ameet(request: HttpRequest) -> HttpResponse:
    """Let other coroutines run in between."""
    before = tasks_app.request_id()
    await asyncio.sleep(0)
    return JsonResponse({"before": before, "seen": tasks_app.request_id()})


def fail(request: HttpRequest) -> HttpResponse:
    """Raise."""
    raise ValueError(tasks_app.request_id())


def enqueue(request: HttpRequest) -> HttpResponse:
    """Enqueue a task."""
    return HttpResponse(str(tasks.add.enqueue(1, 2).id))


async def aenqueue(request: HttpRequest) -> HttpResponse:
    """Enqueue a task from a coroutine."""
    return HttpResponse(str((await tasks.add.aenqueue(1, 2)).id))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer bit by bit, after the middleware has returned."""

    def body() -> Iterator[str]:
        for _ in range(2):
            yield f"{tasks_app.request_id()} {context.owner_id()}\n"

    return StreamingHttpResponse(body())


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    """Do the same from a coroutine."""

    async def body() -> AsyncIterator[str]:
        for _ in range(2):
            await asyncio.sleep(0)
            yield f"{tasks_app.request_id()} {context.owner_id()}\n"

    return StreamingHttpResponse(body())


def send_file(request: HttpRequest) -> FileResponse:
    """Answer with a file."""
    return FileResponse(io.BytesIO(b"file"))


VIEWS = (show, ashow, meet, ameet, fail, enqueue, aenqueue, stream, astream)

urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]


@pytest.fixture
def stack(settings: Any) -> None:
    """The middleware, first in the stack."""
    settings.MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", *settings.MIDDLEWARE]


@pytest.fixture
def anonymous() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def user() -> Any:
    return get_user_model().objects.create_user("mika", password="secret")


@pytest.mark.parametrize("given", ["a1B2c3D4", "trace-7.of_9", "x" * 64])
def test_a_harmless_id_is_taken_over(anonymous, given):
    """The id that came with the request is seen by the code and sent back."""
    response = anonymous.get("/show/", headers={"X-Request-ID": given})
    assert response.json() == {"seen": given, "attribute": given}
    assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given",
    [
        "",
        "short",
        "x" * 65,
        "x" * 10_240,
        "abcdefgh\n",
        "abcdefgh\r\nSet-Cookie: owned=1",
        "abcdefgh%0d%0aSet-Cookie:%20owned=1",
        "abcdefgh\x1b[2J",
        "abcdefgh\x00",
        "abcd\u00e9fgh",
        "\u0430bcdefgh",
        "\uff11" * 8,
        "abcd efgh",
        "abcdefgh,ijklmnop",
        "<script>alert(1)</script>",
        "'; DROP TABLE outcomes;--",
    ],
)
def test_any_other_id_is_replaced(anonymous, given):
    """Nothing of it reaches the code or the response."""
    response = anonymous.get("/show/", headers={"X-Request-ID": given})
    made = response.json()["seen"]
    assert MADE.fullmatch(made)
    assert response.headers["X-Request-ID"] == made
    assert "owned" not in response.cookies


def test_each_request_without_an_id_gets_one_of_its_own(anonymous):
    """Two requests are never told apart by luck."""
    seen = [anonymous.get("/show/").json()["seen"] for _ in range(2)]
    assert all(MADE.fullmatch(made) for made in seen)
    assert seen[0] != seen[1]


def test_the_name_of_the_header_is_a_setting(anonymous, settings):
    """Another header is read and written, and the default one means nothing then."""
    settings.TASKS_APP = {"REQUEST_ID_HEADER": "X-Correlation"}
    headers = {"X-Correlation": "correlated", "X-Request-ID": "requested"}
    response = anonymous.get("/show/", headers=headers)
    assert response.json()["seen"] == response.headers["X-Correlation"] == "correlated"
    assert "X-Request-ID" not in response.headers


@pytest.mark.parametrize("view", ["show", "fail"])
def test_the_id_is_gone_after_the_request(anonymous, view):
    """Code that runs next in the same thread does not inherit it, also after an exception."""
    with context.working_for("outer-work", None):
        response = anonymous.get(f"/{view}/", headers={"X-Request-ID": "abcdefgh"})
        assert response.headers["X-Request-ID"] == "abcdefgh"
        assert tasks_app.request_id() == "outer-work"
    assert tasks_app.request_id() is None


def test_a_server_error_has_the_id_in_its_response(anonymous):
    """The one response that people ask about names its request."""
    response = anonymous.get("/fail/")
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert MADE.fullmatch(response.headers["X-Request-ID"])


def test_an_exception_that_leaves_the_stack_takes_the_id_with_it(settings):
    """With exceptions propagated to the server, the id is put back all the same."""
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    with pytest.raises(ValueError, match="abcdefgh"):
        Client().get("/fail/", headers={"X-Request-ID": "abcdefgh"})
    assert tasks_app.request_id() is None


@pytest.mark.parametrize("view", ["show", "ashow"])
def test_sync_views_see_the_id_in_an_async_stack_and_the_other_way_round(view):
    """Whichever server and whichever view."""

    async def get() -> Any:
        response = await AsyncClient().get(f"/{view}/", headers={"X-Request-ID": "abcdefgh"})
        return response, tasks_app.request_id()

    response, after = asyncio.run(get())
    assert set(response.json().values()) == {"abcdefgh"}
    assert response.headers["X-Request-ID"] == "abcdefgh"
    assert after is None
    response = Client().get(f"/{view}/", headers={"X-Request-ID": "abcdefgh"})
    assert set(response.json().values()) == {"abcdefgh"}


def test_coroutines_that_take_turns_keep_their_ids():
    """Ten requests in one event loop, each with its own id from start to end."""
    given = [f"request-{number}" for number in range(10)]

    async def get_all() -> list[Any]:
        client = AsyncClient()
        wanted = (client.get("/ameet/", headers={"X-Request-ID": name}) for name in given)
        return await asyncio.gather(*wanted)

    answers = asyncio.run(get_all())
    assert [answer.json() for answer in answers] == [{"before": n, "seen": n} for n in given]


def test_an_async_exception_takes_the_id_with_it():
    """The coroutine that served the request is left without one."""

    async def get() -> tuple[Any, Any]:
        client = AsyncClient(raise_request_exception=False)
        return await client.get("/fail/"), tasks_app.request_id()

    response, after = asyncio.run(get())
    assert MADE.fullmatch(response.headers["X-Request-ID"])
    assert after is None


def test_threads_keep_their_ids():
    """Two requests that are open at the same time do not see each other's."""
    answers: dict[str, Any] = {}

    def get(name: str) -> None:
        answers[name] = Client().get("/meet/", headers={"X-Request-ID": name}).json()

    threads = [threading.Thread(target=get, args=(f"thread-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert answers == {
        f"thread-{n}": {"before": f"thread-{n}", "seen": f"thread-{n}"} for n in (0, 1)
    }


def test_two_headers_are_as_good_as_none_under_asgi():
    """A second header is how a proxy's id would be overruled: neither is believed."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/show/",
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"x-request-id", b"abcdefgh"),
            (b"x-request-id", b"ijklmnop"),
        ],
    }

    async def ask() -> dict[bytes, bytes]:
        communicator = ApplicationCommunicator(ASGIHandler(), scope)
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(timeout=5)
        await communicator.receive_output(timeout=5)
        await communicator.wait(timeout=5)
        return dict(start["headers"])

    assert MADE.fullmatch(asyncio.run(ask())[b"X-Request-ID"].decode())


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Where Django's development server listens."""
    server = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=WSGIRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Request-ID: abcdefgh\r\nX-Request-ID: ijklmnop",
        b"X-Request-ID: abcdefgh\r\n Set-Cookie: owned=1",
        b"X-Request-ID: abcdefgh\x1b[31m",
        b"X-Request-ID: abcd\xc3\xa9fgh",
        b"X-Request-ID: " + b"x" * 10_240,
    ],
)
def test_raw_bytes_of_a_hostile_client_do_not_come_back(address, lines):
    """Two headers, a folded one, an escape sequence, other alphabets, ten kilobytes."""
    answer = exchange(address, lines)
    (made,) = re.findall(rb"X-Request-ID: (.*)\r\n", answer)
    assert MADE.fullmatch(made.decode())
    assert b"owned" not in answer
    assert b"\x1b" not in answer


def exchange(address: tuple[str, int], lines: bytes, view: bytes = b"show") -> bytes:
    """Send a request with the given header lines and return the whole answer."""
    request = b"GET /" + view + b"/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines
    with socket.create_connection(address, timeout=10) as connected:
        connected.sendall(request + b"\r\n\r\n")
        parts = []
        while part := connected.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_a_streamed_body_is_made_with_the_id(address):
    """The server asks for each part when the middleware has long returned."""
    answer = exchange(address, b"X-Request-ID: abcdefgh", b"stream")
    assert b"X-Request-ID: abcdefgh\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + b"abcdefgh None\n" * 2)


def test_between_the_parts_of_a_streamed_body_the_id_is_gone():
    """The thread that sends them may do something else meanwhile."""
    response = Client().get("/stream/", headers={"X-Request-ID": "abcdefgh"})
    seen = [(part, tasks_app.request_id()) for part in response]
    assert seen == [(b"abcdefgh None\n", None)] * 2


def test_a_streamed_body_is_made_for_the_logged_in_user(client, db, user):
    """What it enqueues belongs to the user, as it does in the view."""
    client.force_login(user)
    response = client.get("/stream/", headers={"X-Request-ID": "abcdefgh"})
    assert b"".join(response) == f"abcdefgh {user.pk}\n".encode() * 2


def test_an_async_streamed_body_is_made_with_the_id():
    """Under ASGI, part by part, with others of its kind in the same loop."""

    async def get(name: str) -> bytes:
        response = await AsyncClient().get("/astream/", headers={"X-Request-ID": name})
        body = b"".join([part async for part in response])
        assert tasks_app.request_id() is None
        return body

    async def get_all() -> list[bytes]:
        return await asyncio.gather(*map(get, given))

    given = [f"request-{number}" for number in range(5)]
    assert asyncio.run(get_all()) == [f"{name} None\n".encode() * 2 for name in given]


def test_a_file_is_left_to_the_server():
    """A generator around it would keep the server from sending it its own way."""
    response = RequestIDMiddleware(send_file)(RequestFactory().get("/"))
    assert response.file_to_stream is not None
    assert response.headers["X-Request-ID"]


@pytest.mark.django_db
def test_an_outcome_carries_the_request_id(anonymous):
    """What a request enqueued is found by the id that its client has."""
    response = anonymous.get("/enqueue/", headers={"X-Request-ID": "abcdefgh"})
    (outcome,) = Outcome.objects.for_request("abcdefgh")
    assert str(outcome.id) == response.content.decode()


@pytest.mark.django_db
def test_an_outcome_belongs_to_the_logged_in_user(client, user):
    """Whoever was logged in owns what the request enqueued."""
    client.force_login(user)
    client.get("/enqueue/")
    assert Outcome.objects.get().owner == user


@pytest.mark.django_db(transaction=True)
def test_an_outcome_of_an_async_view_belongs_to_the_logged_in_user(user):
    """The user is found in the thread that writes the row, not in the event loop."""

    async def get() -> None:
        client = AsyncClient()
        await client.aforce_login(user)
        await client.get("/aenqueue/", headers={"X-Request-ID": "abcdefgh"})
        # The thread that the event loop used outlives the test; its connection must not.
        await sync_to_async(connections.close_all)()

    asyncio.run(get())
    outcome = Outcome.objects.get()
    assert (outcome.owner, outcome.request_id) == (user, "abcdefgh")


@pytest.mark.django_db
def test_an_owner_given_with_the_call_wins(client, user):
    """`using(owner=…)` says more than the session."""
    with context.working_for("abcdefgh", None, lambda: user.pk):
        other = get_user_model().objects.create_user("robin")
        assert tasks.add.using(owner=other).enqueue(1, 2).owner_id == other.pk
        assert tasks.add.enqueue(1, 2).owner_id == user.pk


@pytest.mark.django_db
def test_an_anonymous_request_asks_no_table_for_its_user(anonymous, settings):
    """Enqueueing for nobody costs the INSERT and nothing else."""
    settings.TASKS_APP = {"RECORD_REQUESTS": False}
    with CaptureQueriesContext(connection) as queries:
        anonymous.get("/enqueue/")
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]
    assert Outcome.objects.get().owner is None


@pytest.mark.django_db
def test_a_request_that_enqueues_nothing_reads_no_session(client, user):
    """The user is looked for when a call wants to know, not before."""
    client.force_login(user)
    with CaptureQueriesContext(connection) as queries:
        client.get("/show/")
    assert not queries.captured_queries


@pytest.mark.django_db
def test_a_child_belongs_to_its_parents_owner_not_to_a_request(user):
    """Inside a task the outcome decides, whatever request ran before in this thread."""
    parent = tasks.add.using(owner=user).enqueue(1, 2)
    lineage = context.Lineage(parent.id, parent.id, user.pk)
    with context.working_for("abcdefgh", lineage, lambda: 1 / 0):
        assert tasks.add.enqueue(1, 2).owner_id == user.pk
