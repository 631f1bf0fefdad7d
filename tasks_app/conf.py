"""
Every setting of the app: `TASKS_APP = {…}`, its types and its defaults.

Values are read when they are used, so `override_settings` works; nothing else in the package
reads `TASKS_APP`. Spans may be given as seconds or as `timedelta`. Unknown names are a system
check (`tasks_app.E025`), not an error here: a typo must not stop a running site.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed

from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError


def _span(value: Any) -> timedelta:
    return as_timedelta(value, "it")


def _positive_span(value: Any) -> timedelta:
    length = _span(value)
    if length <= timedelta(0):
        msg = "must be longer than zero"
        raise ValueError(msg)
    return length


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = "must be a whole number of at least 1"
        raise ValueError(msg)
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = "must be a whole number"
        raise ValueError(msg)
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = "must be True or False"
        raise ValueError(msg)  # noqa: TRY004 - one exception type for every bad setting
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        msg = "must be a non-empty string"
        raise ValueError(msg)
    return value


def _address(value: Any) -> str | None:
    """Read an address that a browser is sent to: an http one, or a path on the same host."""
    if value is None:
        return None
    parts = urlsplit(_text(value))
    is_path = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    # Browsers take \\ for / and skip control characters, which makes a host of such a path.
    is_plain = value.isprintable() and not set(value) & set(" \\<>\"'")
    if not (is_path or is_web) or not is_plain:
        msg = (
            "must be an address such as 'https://shop.example/admin/', or a path such as '/admin/'"
        )
        raise ValueError(msg)
    if "@" in parts.netloc or parts.query or parts.fragment:
        msg = "must have no user, password, query or fragment"
        raise ValueError(msg)
    _ = parts.port  # raises where it is no number
    return str(value)


def _event_address(value: Any) -> str | None:
    """Read the address of an error event's page, with a place for the event's id."""
    if value is None:
        return None
    parts = urlsplit(_text(value))
    is_plain = value.isprintable() and not set(value) & set(" \\<>\"'")
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    if not (is_plain and is_web) or value.count(EVENT_ID) != 1 or EVENT_ID in parts.netloc:
        msg = (
            "must be an address with {event_id} once, such as"
            " 'https://sentry.example/organizations/shop/issues/?query={event_id}'"
        )
        raise ValueError(msg)
    return str(value)


def _token(value: Any) -> str | None:
    shortest = 16
    if value is not None and (not isinstance(value, str) or len(value) < shortest):
        msg = f"must be None or a text of at least {shortest} characters"
        raise ValueError(msg)
    return value


def _version(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= VERSION_LENGTH):
        msg = f"must be None or a text of 1 to {VERSION_LENGTH} characters"
        raise ValueError(msg)
    return value


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)


def _names(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        msg = "must be a list of names"
        raise ValueError(msg)
    return frozenset(value)


def _retention(value: Any) -> dict[str, timedelta | None]:
    unknown = set(value) - set(DEFAULT_RETENTION)
    if unknown:
        msg = f"unknown state {min(unknown)!r}; final states are {sorted(DEFAULT_RETENTION)}"
        raise ValueError(msg)
    given = {state: None if kept is None else _span(kept) for state, kept in value.items()}
    return {**DEFAULT_RETENTION, **given}


#: Characters of a version at most.
VERSION_LENGTH = 128

#: Stands in `SENTRY_EVENT_URL` where an event's id goes.
EVENT_ID = "{event_id}"

#: How long a final outcome is kept; None keeps it for ever.
DEFAULT_RETENTION: dict[str, timedelta | None] = {
    "succeeded": timedelta(days=7),
    "failed": timedelta(days=90),
    "cancelled": timedelta(days=7),
    "expired": timedelta(days=7),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of `TASKS_APP`: its default, how a given value is read, what it means."""

    default: Any
    read: Callable[[Any], Any]
    meaning: str


SETTINGS: Mapping[str, Setting] = {
    "DATABASE": Setting("default", _text, "Alias of the database that holds the outcomes."),
    "ADOPT": Setting(False, _switch, "Give existing Celery tasks outcomes without a change."),  # noqa: FBT003
    "ATOMIC": Setting(True, _switch, "Run helpers in the transaction that records success."),  # noqa: FBT003
    "LEASE": Setting(45, _positive_span, "How long a claim holds without renewal."),
    "RESCUE_INTERVAL": Setting(10, _positive_span, "How often dead leases are looked for."),
    "RELAY_INTERVAL": Setting(0.5, _positive_span, "Longest wait between two looks for due rows."),
    "WAKEUPS": Setting(
        True,  # noqa: FBT003
        _switch,
        "Wake the relays of the same host after the commit of what was enqueued.",
    ),
    "WAKEUP_FOLDER": Setting(
        None,
        _path,
        "Where relays listen for that; None: in the host's temporary folder.",
    ),
    "MAX_IN_FLIGHT": Setting(200, _positive, "Unclaimed messages per queue at the broker."),
    "MAX_CRASHES": Setting(3, _positive, "Lost workers after which an outcome fails."),
    "CANCEL_GRACE": Setting(30, _span, "Time between a cancel request and the hard stop."),
    "UNREGISTERED_AFTER": Setting(
        timedelta(hours=24), _positive_span, "How long a row waits for a worker that knows it."
    ),
    "IDEMPOTENCY_TTL": Setting(
        timedelta(days=7), _span, "How long after its outcome finished a key stays taken."
    ),
    "MAX_ARGUMENT_BYTES": Setting(65_536, _positive, "Largest arguments, as JSON."),
    "MAX_RESULT_BYTES": Setting(65_536, _positive, "Largest stored result, as JSON."),
    "RETENTION": Setting({}, _retention, "How long final outcomes are kept, by state."),
    "PRUNE_DAILY": Setting(
        True,  # noqa: FBT003
        _switch,
        "Let beat delete once a day what `RETENTION` allows.",
    ),
    "REQUEST_ID_HEADER": Setting("X-Request-ID", _text, "HTTP header of the request id."),
    "RECORD_REQUESTS": Setting(
        True,  # noqa: FBT003
        _switch,
        "Keep method, route, status and times of each web request that enqueued something.",
    ),
    "REDACT": Setting(
        ("password", "passwd", "secret", "token", "api_key", "authorization"),
        _names,
        "Argument names that are masked for every task.",
    ),
    "UNSIGNED_CONTROL": Setting(
        False,  # noqa: FBT003
        _switch,
        "Obey remote control, and run Celery's own tasks, whoever sent them.",
    ),
    "ADMIN_URL": Setting(
        None, _address, "Where browsers find the admin, for links from other places to outcomes."
    ),
    "FLOWER_URL": Setting(
        None, _address, "Where browsers find Flower, for links from the admin to tasks."
    ),
    "FLOWER_READ_ONLY": Setting(
        True,  # noqa: FBT003
        _switch,
        "Flower commands neither workers nor tasks, unless its own option `read_only` says so.",
    ),
    "KEEP_LOG_LINES": Setting(
        200, _count, "Last lines of each run kept with its attempt; 0: none."
    ),
    "LOG_LEVELS_FILE": Setting(
        None,
        _path,
        "Where `tasks loglevel` leaves its wish; None: in the host's temporary folder.",
    ),
    "METRICS_TOKEN": Setting(
        None, _token, "Bearer token that opens the metrics; None: staff who may see outcomes only."
    ),
    "METRICS_INTERVAL": Setting(15, _positive_span, "How often outcomes are counted for metrics."),
    "STATUS_TOKEN_AGE": Setting(
        timedelta(days=1), _positive_span, "How long a token for an outcome's status is good."
    ),
    "STATUS_STREAMS": Setting(
        4, _count, "Status streams that one process serves at a time under WSGI; 0: none."
    ),
    "LIVENESS_FILE": Setting(None, _path, "File that a living worker touches every few seconds."),
    "RELAY_IN_WORKER": Setting(True, _switch, "Run a relay inside every worker."),  # noqa: FBT003
    "VERSION": Setting(
        None, _version, "Version of the project's code; None: what Sentry would call the release."
    ),
    "SENTRY_EVENT_URL": Setting(
        None,
        _event_address,
        "Page of an error in Sentry, with `{event_id}`; None: the admin shows the event's id.",
    ),
    "SENTRY_RETRIES": Setting(
        False,  # noqa: FBT003
        _switch,
        "Send Sentry an event for each failed attempt, not only for the last one.",
    ),
}


class Conf:
    """Attribute access to the settings above: `conf.LEASE` is a timedelta."""

    def __init__(self) -> None:
        self._cache: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in SETTINGS:
            raise AttributeError(name)
        if name not in self._cache:
            self._cache[name] = read_setting(name)
        return self._cache[name]

    def forget(self, **kwargs: Any) -> None:
        """Drop what was read; the receiver of Django's `setting_changed`."""
        if kwargs.get("setting") in {None, "TASKS_APP"}:
            self._cache.clear()


def given_settings() -> Mapping[str, Any]:
    """
    Return the project's own `TASKS_APP`, as it stands.

    Raises:
        ConfigurationError: it is no dict.
    """
    given = getattr(settings, "TASKS_APP", {})
    if not isinstance(given, Mapping):
        msg = f"TASKS_APP is {given!r}: it must be a dict."
        raise ConfigurationError(msg)
    return given


def read_setting(name: str) -> Any:
    """
    Return one setting, read from the project or from the default.

    Raises:
        ConfigurationError: the project's value has the wrong type or range.
    """
    setting = SETTINGS[name]
    value = given_settings().get(name, setting.default)
    try:
        return setting.read(value)
    except (TypeError, ValueError) as error:
        msg = f"TASKS_APP[{name!r}] is {value!r}: {error}."
        raise ConfigurationError(msg) from error


conf = Conf()
setting_changed.connect(conf.forget)
