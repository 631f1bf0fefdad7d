"""
Streams: server-sent events that tell of an outcome until it is final.

Each event has the whole status and an id that names it, so a client which comes back with
`Last-Event-ID` is told what is new since then, and always the end. A stream is bounded in time: its
client connects again, and is asked again who it is. Between two looks no database connection is
kept that the project does not keep anyway.

Under WSGI a stream occupies a thread, so only so many are served at a time; a server with one
thread serves none. Whoever gets no seat is told the present state and when to come back.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseFailure
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

from tasks_app.conf import conf
from tasks_app.models import Outcome
from tasks_app.states import State
from tasks_app.status.documents import CHANGING, version

MEDIA_TYPE = "text/event-stream"

#: Seconds that a stream lasts at most, where it occupies a thread and where it does not.
WSGI_SECONDS, ASGI_SECONDS = 25.0, 300.0

#: Seconds between two looks: the first, and the longest.
SHORTEST_LOOK, LONGEST_LOOK = 0.1, 1.0

#: Seconds of silence after which a comment shows proxies, and us, that the other side is there.
HEARTBEAT = 5.0

#: Milliseconds until a client connects again: after a stream, and without a seat.
RETRY, RETRY_WITHOUT_SEAT = 1_000, 3_000


class Seats:
    """How many streams this process serves under WSGI."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken = 0

    def take(self) -> bool:
        """Take a seat if one is free."""
        with self._lock:
            is_free: bool = self.taken < conf.STATUS_STREAMS
            self.taken += is_free
        return is_free

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1


seats = Seats()


class Stream:
    """What one client is told, part by part; waits for nothing itself."""

    def __init__(
        self, outcome: Outcome, tell: Callable[[Outcome], dict[str, Any]], last_id: str
    ) -> None:
        self._outcome = outcome
        self._tell = tell
        self._last_id = last_id
        self._spoke_at = time.monotonic()
        #: Seconds until the next look; None: the stream has ended.
        self.pause: float | None = SHORTEST_LOOK

    @property
    def is_told(self) -> bool:
        """Whether the client knows the end already."""
        return self._outcome.is_final and version(self._outcome) == self._last_id

    def open(self, retry: int) -> bytes:
        """Return the first part: when to come back, and what the client does not know yet."""
        return f"retry: {retry}\n\n".encode() + self._news()

    def look(self) -> bytes:
        """Look at the row and return what is new, or a heartbeat, or nothing."""
        try:
            self._refresh()
        except (Outcome.DoesNotExist, DatabaseFailure):
            self.pause = None
            return b""
        finally:
            _leave(conf.DATABASE)
        news = self._news()
        if not news and time.monotonic() - self._spoke_at >= HEARTBEAT:
            self._spoke_at = time.monotonic()
            return b": still here\n\n"
        return news

    def _refresh(self) -> None:
        outcome = self._outcome
        outcome.refresh_from_db(using=conf.DATABASE, fields=CHANGING)
        if outcome.state == State.SUCCEEDED:
            outcome.refresh_from_db(using=conf.DATABASE, fields=["result_json"])

    def _news(self) -> bytes:
        """Return an event if there is one to tell, and set the pace."""
        now = version(self._outcome)
        is_new = now != self._last_id
        if self._outcome.is_final:
            self.pause = None
        else:
            self.pause = SHORTEST_LOOK if is_new else min((self.pause or 0) * 2, LONGEST_LOOK)
        if not is_new:
            return b""
        self._last_id, self._spoke_at = now, time.monotonic()
        return f"id: {now}\ndata: {json.dumps(self._tell(self._outcome))}\n\n".encode()


def answer(request: HttpRequest, stream: Stream) -> StreamingHttpResponse:
    """Return the response that tells a stream, in the way of the server that asks."""
    if isinstance(request, ASGIRequest):
        return _response(_atold(stream, time.monotonic() + ASGI_SECONDS))
    if request.META.get("wsgi.multithread") and seats.take():
        return _response(Seated(_told(stream, time.monotonic() + WSGI_SECONDS)))
    return _response(iter([stream.open(RETRY_WITHOUT_SEAT)]))


class Seated:
    """A body that has a seat until the server closes it, whether or not it was sent."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Give the seat back, once."""
        if not self._is_closed:
            self._is_closed = True
            seats.give_back()


def _told(stream: Stream, end: float) -> Iterator[bytes]:
    yield stream.open(RETRY)
    while stream.pause is not None and time.monotonic() < end:
        time.sleep(stream.pause)
        if part := stream.look():
            yield part


async def _atold(stream: Stream, end: float) -> AsyncIterator[bytes]:
    yield stream.open(RETRY)
    while stream.pause is not None and time.monotonic() < end:
        await asyncio.sleep(stream.pause)
        if part := await sync_to_async(stream.look)():
            yield part


def _response(parts: Any) -> StreamingHttpResponse:
    response = StreamingHttpResponse(parts, content_type=MEDIA_TYPE)
    # Compression and buffers would keep an event back until many have come together.
    response.headers["Content-Encoding"] = "identity"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _leave(database: str) -> None:
    """Close a connection that would be closed after a request; a lasting or pooled one stays."""
    connection = connections[database]
    if not connection.in_atomic_block:  # as it is in most tests of a project
        connection.close_if_unusable_or_obsolete()
