"""
Whose work this is: the request id, the outcome and the user that the current code runs for.

A call captures them into its row as it is enqueued; a worker restores them around every attempt.
Contextvars keep threads, tasks and requests apart. Other packages have ids of requests, too: one
that they have set is ours where we have none, and theirs is ours while we have one.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

#: Harmless to store, log and send back. To be matched as a whole: `$` would let a line end pass.
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{8,64}")

_request_id: ContextVar[str | None] = ContextVar("tasks_app_request_id", default=None)
_lineage: ContextVar["Lineage | None"] = ContextVar("tasks_app_lineage", default=None)
#: Finds the user's primary key when a call wants to know it: finding it may cost a query.
_find_owner: ContextVar["Callable[[], Any] | None"] = ContextVar(
    "tasks_app_find_owner", default=None
)


#: The web request that is being answered here.
_web_request: ContextVar["WebWork | None"] = ContextVar("tasks_app_web_request", default=None)

#: Where a row's trace context has the headers of its last attempt; no header is called so.
PREVIOUS = "previous attempt"

#: Told the id of each request that begins; integrations add theirs.
on_request: list[Callable[[str], None]] = []

#: Writers of propagation headers, such as `traceparent`; integrations add theirs.
injectors: list[Callable[[MutableMapping[str, str]], None]] = []


@dataclass(frozen=True, slots=True)
class Lineage:
    """The outcome that is running here: what it enqueues are its children."""

    outcome_id: UUID
    root_id: UUID
    owner_id: Any = None

    @classmethod
    def of(cls, outcome: Any) -> "Lineage":
        """Return what an outcome's children are told."""
        return cls(outcome.id, outcome.root_id, outcome.owner_id)


@dataclass(slots=True)
class WebWork:
    """What a web request has caused so far; shared by all threads and coroutines that serve it."""

    request_id: str
    has_enqueued: bool = False


@dataclass(frozen=True, slots=True)
class ForeignID:
    """Where another package keeps the id of the request that the current code works for."""

    read: Callable[[], Any]
    write: Callable[[str | None], Any]
    #: Whether its middleware adds a header to every response, even beside one of the same name.
    adds_header: bool = False


#: Of the packages that this project uses, in the order in which they are asked.
foreign: list[ForeignID] = []


def request_id() -> str | None:
    """Return the id of the request, or of the task, that the current code works for."""
    return _request_id.get() or foreign_request_id()


def foreign_request_id() -> str | None:
    """Return the id that another package itself has set, if it is one to accept."""
    for source in foreign:
        given = source.read()
        if is_acceptable(given) and given != _request_id.get():
            return str(given)
    return None


def is_acceptable(given: Any) -> bool:
    """Tell whether what somebody else made may serve as a request id."""
    return isinstance(given, str) and ACCEPTED.fullmatch(given) is not None


def new_request_id() -> str:
    """Return a fresh request id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def lineage() -> Lineage | None:
    """Return the outcome that runs here, or None outside a task."""
    return _lineage.get()


def owner_id() -> Any:
    """Return the primary key of the user that this work is done for, or None."""
    parent, find = _lineage.get(), _find_owner.get()
    if parent is not None:
        return parent.owner_id
    return None if find is None else find()


def trace_context() -> str:
    """Return where in a distributed trace the current code stands, as JSON text; "" if nowhere."""
    headers: dict[str, str] = {}
    for inject in injectors:
        inject(headers)
    return json.dumps(headers) if headers else ""


def trace_headers(text: str) -> dict[str, str]:
    """Return the propagation headers that `trace_context` put into a row."""
    kept = json.loads(text) if text else {}
    return {name: value for name, value in kept.items() if isinstance(value, str)}


def with_previous_headers(text: str, headers: Mapping[str, str]) -> str:
    """Return a row's trace context with the headers of the attempt that is about to end."""
    return json.dumps({**trace_headers(text), PREVIOUS: dict(headers)})


def previous_headers(text: str) -> dict[str, str]:
    """Return the headers of the attempt before, empty for a first one."""
    return json.loads(text).get(PREVIOUS, {}) if text else {}


@contextmanager
def working_for(
    request: str | None,
    parent: Lineage | None,
    find_owner: Callable[[], Any] | None = None,
) -> Iterator[None]:
    """Set request id, lineage and user for the block, and put back what was there before."""
    request_token = _request_id.set(request)
    lineage_token = _lineage.set(parent)
    owner_token = _find_owner.set(find_owner)
    before = [(source, source.read()) for source in foreign]
    for source, _ in before:
        source.write(request)
    try:
        yield
    finally:
        for source, theirs in before:
            source.write(theirs)
        _find_owner.reset(owner_token)
        _lineage.reset(lineage_token)
        _request_id.reset(request_token)


@contextmanager
def answering(work: WebWork) -> Iterator[None]:
    """Note in `work` what the block enqueues for its request."""
    token = _web_request.set(work)
    try:
        yield
    finally:
        _web_request.reset(token)


def note_enqueued(request: str | None) -> None:
    """Note that something was enqueued under a request id."""
    work = _web_request.get()
    if work is not None and work.request_id == request:
        work.has_enqueued = True


@contextmanager
def own_request_id() -> Iterator[str]:
    """
    Give the block a new request id, as work of its own: nobody's child, for no user.

    For what no request began: one round of a loop that never ends, one message of a listener.
    """
    made = new_request_id()
    with working_for(made, None):
        yield made


@contextmanager
def some_request_id() -> Iterator[None]:
    """Give the block one request id: the one that is there, else a new one."""
    with working_for(request_id() or new_request_id(), _lineage.get(), _find_owner.get()):
        yield


def overrule(request: str) -> None:
    """Replace for good the ids that other packages themselves have set."""
    for source in foreign:
        if source.read() not in {None, request, _request_id.get()}:
            source.write(request)
