"""
The HTTP middleware: one request id for the request and for everything that it causes.

An id that another package's middleware has set is adopted, else one that comes with the request; if
it is harmless to store, log and send back. Any other is replaced, never repaired. What the request
enqueues carries the id and belongs to the logged-in user. Both are put back when the response is
ready, also after an exception, and are there again while a streamed body is made. A request that
enqueued something leaves a row that tells of it, written after the response is ready.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty

from tasks_app import context
from tasks_app.conf import conf
from tasks_app.web_requests import Visit

GetResponse = Callable[[HttpRequest], Any]
#: Makes the block in which code works for the request.
Work = Callable[[], AbstractContextManager[None]]


class RequestIDMiddleware:
    """
    Gives each request an id: `tasks_app.request_id()`, `request.request_id` and a header.

    Works in sync and async stacks. Put it first in `MIDDLEWARE`, or next to the middleware of
    another package that gives requests their ids. The header's name is
    `TASKS_APP["REQUEST_ID_HEADER"]`, `X-Request-ID` by default; the response always has it.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        work = _begin(request)
        visit = Visit(request)
        try:
            with work(), visit.noticing():
                response = self.get_response(request)
        except BaseException:
            visit.record(None)
            raise
        visit.record(response.status_code)
        return _finish(request, response, work)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        work = _begin(request)
        visit = Visit(request)
        try:
            with work(), visit.noticing():
                response = await self.get_response(request)
        except BaseException:
            await _arecord(visit, None)
            raise
        await _arecord(visit, response.status_code)
        return _finish(request, response, work)


async def _arecord(visit: Visit, status: int | None) -> None:
    if visit.is_to_be_told:
        await sync_to_async(visit.record)(status)


def _begin(request: HttpRequest) -> Work:
    """Give the request its id."""
    given = request.headers.get(conf.REQUEST_ID_HEADER)
    if not context.is_acceptable(given):
        given = None
    request_id = context.foreign_request_id() or given or context.new_request_id()
    # Theirs is what their own response header says, and may be what nobody should send back.
    context.overrule(request_id)
    for tell in context.on_request:
        tell(request_id)
    request.request_id = request_id  # type: ignore[attr-defined]
    return partial(context.working_for, request_id, None, partial(_owner_id, request))


def _finish(request: HttpRequest, response: HttpResponseBase, work: Work) -> HttpResponseBase:
    """Tell the client the id, and keep it for a body that is yet to be made."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not _is_sent_by_another(request, request_id):
        response.headers[conf.REQUEST_ID_HEADER] = request_id
    # A file is read by the server, in its own best way, which a generator around it would prevent.
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        body: Any = response
        wrap = _astreamed if body.is_async else _streamed
        body.streaming_content = wrap(body.streaming_content, work)
    return response


def _is_sent_by_another(request: HttpRequest, request_id: str) -> bool:
    """
    Tell whether another package's middleware will add this header, which would be there twice.

    Such a middleware writes its id into the request's header, too: so the name is known to be ours.
    """
    return request.headers.get(conf.REQUEST_ID_HEADER) == request_id and any(
        source.adds_header and source.read() == request_id for source in context.foreign
    )


def _streamed(parts: Iterable[bytes], work: Work) -> Iterator[bytes]:
    """Make each part for the request; in between, the thread may work for others."""
    iterator = iter(parts)
    while True:
        with work():
            try:
                part = next(iterator)
            except StopIteration:
                return
        yield part


async def _astreamed(parts: AsyncIterable[bytes], work: Work) -> AsyncIterator[bytes]:
    """Do what `_streamed` does, in a coroutine."""
    iterator = aiter(parts)
    while True:
        with work():
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
        yield part


def _owner_id(request: HttpRequest) -> Any:
    """Return the logged-in user's primary key, or None; asks no database for an anonymous one."""
    user = getattr(request, "user", None)
    if user is None or (_is_unknown(user) and not _has_session(request)):
        return None
    is_account = isinstance(user, get_user_model()) and user.is_authenticated
    return user.pk if is_account else None


def _is_unknown(user: Any) -> bool:
    """Tell whether looking at the user would read the session and the user's row."""
    return isinstance(user, LazyObject) and user._wrapped is empty  # noqa: SLF001 - Django has no public way to ask


def _has_session(request: HttpRequest) -> bool:
    return getattr(getattr(request, "session", None), "session_key", None) is not None
