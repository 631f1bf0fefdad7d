"""
What Sentry gets to see: events of this process without the secrets of its calls.

Names decide everywhere: a variable, field or key that some task or `REDACT` names is masked in
every event. While a helper runs, and until the next one does in the same thread, its secret values
are masked in every text too. Frames of this app, and of what it calls, lose their variables: those
hold calls as a whole.

Works whichever way and whenever the project initialises Sentry, since the hook is the SDK's own and
global. An event that cannot be searched loses all but its outline.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakSet

import sentry_sdk
from sentry_sdk.scope import add_global_event_processor
from sentry_sdk.utils import (  # type: ignore[attr-defined]  # one of them has moved since 2.20
    AnnotatedValue,
    iter_event_stacktraces,
)

from tasks_app import signals
from tasks_app.models import Outcome
from tasks_app.redaction import MASK, is_clean, scrub, secret_names, secret_texts

#: Where calls leave this app for the helper, by module and function.
DOORS = {("tasks_app.worker", "_call"), ("tasks_app.declare", "__call__")}

#: Fields of an event that tell what it is and hold nothing of the project's data.
OUTLINE = {
    "dist",
    "environment",
    "event_id",
    "level",
    "logger",
    "modules",
    "platform",
    "release",
    "sdk",
    "server_name",
    "start_timestamp",
    "timestamp",
    "type",
}

#: Fields further down that stay as they are, whatever a short secret may look like.
STRUCTURE = {"in_app", "lineno", "parent_span_id", "span_id", "timestamp", "trace_id"}

#: Containers inside one another that are looked into; deeper ones are judged by their `repr`.
DEPTH = 24


class _Call:
    """The secrets of the call that a thread ran last."""

    secrets: tuple[str, ...] = ()


_here = threading.local()
#: Of every living thread: a helper may have started others, in which its errors happen.
_calls: WeakSet[_Call] = WeakSet()
_lock = threading.Lock()


def connect() -> None:
    """Scrub the events of this process from now on; called once, when the app is ready."""
    add_global_event_processor(_stand_last)
    signals.started.connect(_remember, dispatch_uid=__name__)


class Scrubber:
    """Masks an event's secrets, after whatever the project's own scrubber does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def scrub_event(self, event: Any) -> None:
        """Mask in place; what cannot be searched is left out."""
        try:
            if self.inner:
                self.inner.scrub_event(event)
            _close_frames(event)
            names, secrets = secret_names(), _secrets()
            for field in event.keys() - OUTLINE:
                event[field] = _masked(event[field], names, secrets, DEPTH)
        except Exception:  # noqa: BLE001 - no error here may let an event pass as it is
            for field in event.keys() - OUTLINE:
                del event[field]


def _stand_last(event: Any, hint: Any) -> Any:
    """Take the place of the client's scrubber, which works when others have added their part."""
    options = sentry_sdk.get_client().options
    scrubber = options.get("event_scrubber")
    if not isinstance(scrubber, Scrubber):
        options["event_scrubber"] = Scrubber(scrubber)
    return event


def _remember(outcome: Outcome, **kwargs: Any) -> None:
    if not sentry_sdk.is_initialized():
        return
    call = getattr(_here, "call", None)
    if call is None:
        call = _here.call = _Call()
        with _lock:
            _calls.add(call)
    call.secrets = tuple(secret_texts(outcome.task_name, outcome.args, outcome.kwargs))


def _secrets() -> list[str]:
    with _lock:
        found = {secret for call in _calls for secret in call.secrets}
    return sorted(found, key=len, reverse=True)


def _close_frames(event: Any) -> None:
    """Take the variables from frames of this app, which are no part of the project's either."""
    for stacktrace in iter_event_stacktraces(event):
        if isinstance(stacktrace, AnnotatedValue):
            continue
        is_inside = False
        for frame in stacktrace.get("frames") or ():
            module = frame.get("module") or ""
            is_ours = module.partition(".")[0] == "tasks_app"
            if is_ours:
                frame["in_app"] = False
            if is_ours or is_inside:
                frame.pop("vars", None)
            if is_ours:
                is_inside = (module, frame.get("function")) not in DOORS


def _masked(value: Any, names: frozenset[str], secrets: list[str], depth: int) -> Any:
    """Return a value of an event without secrets; what is neither text nor container may stay."""
    if isinstance(value, AnnotatedValue):
        value.value = _masked(value.value, names, secrets, depth)
        return value
    if isinstance(value, str):
        return scrub(value, secrets)
    if depth and isinstance(value, Mapping):
        return {
            scrub(key, secrets) if isinstance(key, str) else key: item
            if key in STRUCTURE
            else MASK
            if key in names
            else _masked(item, names, secrets, depth - 1)
            for key, item in value.items()
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_masked(item, names, secrets, depth - 1) for item in value]
    return value if _looks_clean(value, secrets) else MASK


def _looks_clean(value: Any, secrets: Iterable[str]) -> bool:
    return value is None or isinstance(value, bool) or is_clean(f"{value!s} {value!r}", secrets)
