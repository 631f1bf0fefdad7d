"""
Server-sent events: nothing twice, the end always, under WSGI and ASGI, within bounds.

The clients are Django's own for both; what a real server does with a stream is seen once for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.signals import request_finished
from django.db import OperationalError, close_old_connections, connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from tasks_app import context, outcomes, status_token
from tasks_app.leases import Lease
from tasks_app.models import Outcome
from tasks_app.status import streams
from tests.integration.command_line import claimed, rewritten, succeeded
from tests.testapp import tasks

pytestmark = pytest.mark.django_db

EVENTS = "text/event-stream"
REQUEST_IDS = "tasks_app.middleware.RequestIDMiddleware"


@dataclass
class Part:
    """One event, a comment, or when to come back."""

    id: str = ""
    data: Any = None
    retry: int = 0
    is_comment: bool = False


def parts(chunks: Iterator[bytes]) -> Iterator[Part]:
    """Read a stream as a browser does."""
    for chunk in chunks:
        yield from read(chunk)


def read(chunk: bytes) -> Iterator[Part]:
    assert chunk.endswith(b"\n\n")
    for block in chunk.decode().split("\n\n")[:-1]:
        fields = dict(line.split(":", 1) for line in block.split("\n"))
        data = fields.get("data")
        yield Part(
            fields.get("id", "").strip(),
            None if data is None else json.loads(data),
            int(fields.get("retry", 0)),
            is_comment="" in fields,
        )


def events(chunks: Iterator[bytes]) -> Iterator[Part]:
    """Yield what has data."""
    return (part for part in parts(chunks) if part.data is not None)


def listen(outcome: Outcome, last_id: str = "", *, threads: bool = True, **token: Any) -> Any:
    """Ask for events as a client of a WSGI server does."""
    given = status_token(outcome, **token)
    headers = {"Accept": EVENTS, "Authorization": f"Bearer {given}", "Last-Event-ID": last_id}
    address = f"/tasks/{outcome.id}/events"
    return Client().get(address, headers=headers, **{"wsgi.multithread": threads})


def close(response: Any) -> None:
    """Close a response as a server does, but leave the test's transaction open."""
    response._iterator.close()
    request_finished.disconnect(close_old_connections)
    response.close()
    request_finished.connect(close_old_connections)


@pytest.fixture(autouse=True)
def no_seat_is_lost():
    """Whatever becomes of a stream, its seat is free again."""
    yield
    assert streams.seats.taken == 0


@pytest.fixture
def soon(monkeypatch):
    """Short waits."""
    monkeypatch.setattr(streams, "SHORTEST_LOOK", 0.01)
    monkeypatch.setattr(streams, "LONGEST_LOOK", 0.02)


def test_a_stream_tells_each_change_and_ends_with_the_end(soon):
    """State and progress, each once, under ids that differ."""
    outcome = tasks.add.enqueue(1, 2)
    response = listen(outcome, may_read_result=True)
    told = events(response)
    seen = [next(told)]
    running = claimed(outcome)
    seen.append(next(told))
    rewritten(running, progress_done=1, progress_total=2, progress_message="half")
    seen.append(next(told))
    outcomes.succeed(Lease.of(running), "3")
    seen += list(told)
    close(response)
    assert response.headers["Content-Type"] == EVENTS
    assert [event.data["text"] for event in seen] == [
        "waiting",
        "running",
        "running · 50% · half",
        "done",
    ]
    assert seen[-1].data["result"] == 3
    assert len({event.id for event in seen}) == 4


def test_a_stream_resumes_where_its_client_was(soon):
    """What the client had is not told again, and what it missed is."""
    outcome = tasks.add.enqueue(1, 2)
    first = listen(outcome)
    (seen,) = (next(events(first)),)
    close(first)
    second = listen(outcome, seen.id)
    told = parts(second)
    assert next(told) == Part(retry=streams.RETRY)
    running = claimed(outcome)
    assert next(told).data["state"] == "running"
    close(second)
    outcomes.succeed(Lease.of(running), None)
    (last,) = events(listen(outcome, seen.id, threads=False))
    assert last.data["state"] == "succeeded"
    ended = listen(outcome, last.id)
    assert (ended.status_code, ended.content) == (204, b"")


def test_an_id_that_nobody_gave_out_is_no_news_missed():
    """Whatever a client claims to have had, it is told the end."""
    outcome = succeeded(tasks.add.enqueue(1, 2))
    for forged in ("", "x", "0-0", "1" * 5000, "\u00fc"):
        (event,) = events(listen(outcome, forged))
        assert event.data["state"] == "succeeded"


def test_a_stream_under_wsgi_ends_in_time(soon, monkeypatch):
    """Its thread is free again, and its client knows when to come back."""
    monkeypatch.setattr(streams, "WSGI_SECONDS", 0.05)
    response = listen(tasks.add.enqueue(1, 2))
    seen = list(parts(response))
    close(response)
    assert seen[0].retry == streams.RETRY
    assert [part.data["state"] for part in seen[1:]] == ["pending"]


def test_silence_is_broken_by_comments(soon, monkeypatch):
    """Proxies keep the connection, and the server learns that its client has gone."""
    monkeypatch.setattr(streams, "HEARTBEAT", 0.03)
    response = listen(tasks.add.enqueue(1, 2))
    told = parts(response)
    assert [next(told).is_comment for _ in range(4)] == [False, False, True, True]
    close(response)


def test_a_process_serves_so_many_streams_and_no_more(settings):
    """Whoever comes later is told the present state and when to ask again."""
    settings.TASKS_APP = {"STATUS_STREAMS": 2}
    outcome = tasks.add.enqueue(1, 2)
    served = [listen(outcome), listen(outcome)]
    crowded = list(parts(listen(outcome)))
    assert crowded[0].retry == streams.RETRY_WITHOUT_SEAT
    assert [part.data["state"] for part in crowded[1:]] == ["pending"]
    # One is closed before anything of it was sent, and one twice.
    close(served[0])
    assert streams.seats.taken == 1
    next(iter(served[1]))
    close(served[1])
    close(served[1])
    assert streams.seats.taken == 0


def test_a_server_with_one_thread_serves_no_stream():
    """It would answer nobody else meanwhile."""
    outcome = tasks.add.enqueue(1, 2)
    seen = list(parts(listen(outcome, threads=False)))
    assert [part.retry for part in seen] == [streams.RETRY_WITHOUT_SEAT, 0]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (EVENTS, EVENTS),
        ("*/*", EVENTS),
        (f"{EVENTS}, application/json;q=0.5", EVENTS),
        ("application/json", "application/json"),
        (f"application/json, {EVENTS};q=0.5", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_who_takes_no_events_gets_the_status(accept, expected):
    """And when to poll again."""
    outcome = tasks.add.enqueue(1, 2)
    headers = {"Accept": accept, "Authorization": f"Bearer {status_token(outcome)}"}
    answer = Client().get(f"/tasks/{outcome.id}/events", headers=headers)
    assert answer.headers["Content-Type"] == expected
    if expected != EVENTS:
        assert answer.headers["Retry-After"] == "2"
        assert answer.json()["state"] == "pending"


def test_a_look_costs_one_statement(soon, monkeypatch):
    """None of the large columns is read, and nothing is written."""
    monkeypatch.setattr(streams, "WSGI_SECONDS", 0.1)
    outcome = tasks.add.enqueue(1, 2)
    looks = []
    sound = streams.Stream.look
    monkeypatch.setattr(streams.Stream, "look", lambda self: looks.append(1) or sound(self))
    response = listen(outcome)
    with CaptureQueriesContext(connection) as captured:
        list(response)
    close(response)
    sent = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    assert 0 < len(sent) == len(looks)
    assert not [sql for sql in sent if "_json" in sql]


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_kept_while_a_stream_waits(soon):
    """Unless the project keeps its connections anyway."""
    response = listen(tasks.add.enqueue(1, 2))
    body = response.streaming_content
    next(body)
    claimed(Outcome.objects.get())
    for age, is_kept in ((0, False), (None, True)):
        connection.close()
        connection.settings_dict["CONN_MAX_AGE"] = age
        try:
            Outcome.objects.update(progress_done=1 if is_kept else 2)
            next(body)
            assert (connection.connection is not None) == is_kept
        finally:
            connection.settings_dict["CONN_MAX_AGE"] = 0
    close(response)


def test_a_row_that_is_pruned_ends_its_stream(soon):
    """Its client is told that there is none when it asks again."""
    outcome = tasks.add.enqueue(1, 2)
    response = listen(outcome)
    told = parts(response)
    assert [next(told).retry, next(told).data["state"]] == [streams.RETRY, "pending"]
    Outcome.objects.all().delete()
    assert list(told) == []
    close(response)
    assert listen(outcome).status_code == 404


def test_a_database_that_goes_away_ends_a_stream(soon, monkeypatch):
    """The client comes back by itself; nobody is told an error."""
    response = listen(tasks.add.enqueue(1, 2))
    told = parts(response)
    assert [next(told).retry, next(told).data["state"]] == [streams.RETRY, "pending"]

    def gone(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    with connection.execute_wrapper(gone):
        assert list(told) == []
    close(response)


def test_nothing_compresses_or_buffers_a_stream(settings):
    """An event that waits for the next one comes too late."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    outcome = succeeded(tasks.add.enqueue(1, 2))
    headers = {"Accept": EVENTS, "Accept-Encoding": "gzip"}
    address = f"/tasks/{outcome.id}/events?token={status_token(outcome)}"
    answer = Client().get(address, headers=headers)
    assert [event.data["state"] for event in events(iter(answer))] == ["succeeded"]
    assert answer.headers["Content-Encoding"] == "identity"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_streams_looks_work_for_its_request(soon, settings, monkeypatch):
    """What they log and trace has the id of the request."""
    settings.MIDDLEWARE = [REQUEST_IDS, *settings.MIDDLEWARE]
    outcome = tasks.add.enqueue(1, 2)
    ids = set()
    sound = streams.Stream.look

    def look(self: streams.Stream) -> bytes:
        ids.add(context.request_id())
        return sound(self)

    monkeypatch.setattr(streams.Stream, "look", look)
    response = listen(outcome)
    told = events(response)
    next(told)
    claimed(outcome)
    next(told)
    close(response)
    assert ids == {response.headers["X-Request-ID"]}


def in_a_loop(test: Any) -> Any:
    """Run a test that is a coroutine, with Django's code in this thread."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async_to_sync(test)(**fixtures)

    return run


@in_a_loop
async def test_under_asgi_a_stream_tells_the_same(soon, settings):
    """In a coroutine, without a seat, and for the request's id."""
    settings.MIDDLEWARE = [REQUEST_IDS, *settings.MIDDLEWARE]
    outcome = await tasks.add.aenqueue(1, 2)
    headers = {"Accept": EVENTS, "Authorization": f"Bearer {status_token(outcome)}"}
    address = f"/tasks/{outcome.id}/events"
    response = await AsyncClient().get(address, headers=headers)
    assert response.is_async
    assert streams.seats.taken == 0
    body = aiter(response.streaming_content)
    seen = list(read(await anext(body)))
    running = await sync_to_async(claimed)(outcome)
    seen += read(await anext(body))
    await sync_to_async(outcomes.succeed)(Lease.of(running), None)
    seen += [part async for chunk in body for part in read(chunk)]
    told = [part for part in seen if part.data]
    assert [part.data["state"] for part in told] == ["pending", "running", "succeeded"]
    again = await AsyncClient().get(address, headers={**headers, "Last-Event-ID": told[-1].id})
    assert again.status_code == 204


@in_a_loop
async def test_under_asgi_a_stream_ends_in_time(soon, monkeypatch):
    """So its client is asked again who it is."""
    monkeypatch.setattr(streams, "ASGI_SECONDS", 0.05)
    outcome = await tasks.add.aenqueue(1, 2)
    headers = {"Accept": EVENTS, "Authorization": f"Bearer {status_token(outcome)}"}
    response = await AsyncClient().get(f"/tasks/{outcome.id}/events", headers=headers)
    chunks = [chunk async for chunk in response.streaming_content]
    assert len(chunks) == 1
