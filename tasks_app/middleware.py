"""
The HTTP middleware: one request id for the request and for everything that it causes.

An id that comes with the request is taken over if it is harmless to store, log and send back;
any other is replaced, never repaired. What the request enqueues carries the id and belongs to
the logged-in user. Both are put back when the response is ready, also after an exception.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty

from tasks_app import context
from tasks_app.conf import conf

#: Several headers of the name arrive as one value with commas, which does not match either.
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{8,64}")

GetResponse = Callable[[HttpRequest], Any]


class RequestIDMiddleware:
    """
    Gives each request an id: `tasks_app.request_id()`, `request.request_id` and a header.

    Works in sync and async stacks. Put it first in `MIDDLEWARE`. The header's name is
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
        request_id = _name(request)
        with context.working_for(request_id, None, lambda: _owner_id(request)):
            return _marked(self.get_response(request), request_id)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _name(request)
        with context.working_for(request_id, None, lambda: _owner_id(request)):
            return _marked(await self.get_response(request), request_id)


def _name(request: HttpRequest) -> str:
    given = request.headers.get(conf.REQUEST_ID_HEADER, "")
    request_id = given if ACCEPTED.fullmatch(given) else context.new_request_id()
    request.request_id = request_id  # type: ignore[attr-defined]
    return request_id


def _marked(response: HttpResponseBase, request_id: str) -> HttpResponseBase:
    response.headers[conf.REQUEST_ID_HEADER] = request_id
    return response


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
