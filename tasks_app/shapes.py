"""
Shapes: what a message may look like before anything is done with it.

Pure checks of decoded JSON. A worker's main process, its pool and its monitors take these shapes
for granted; what differs is refused here, with words that name the place and never the value.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Levels of lists and mappings that any part of a message may have. A call's arguments have at
#: most 32; a chain in a chord in a chain adds a few. Python's own limit is near 500.
MAX_DEPTH: Final = 100

#: Characters of an id, a name or an address.
MAX_TEXT: Final = 255

#: Largest number that a counter or a clock may hold; more would fail where it is sent on.
MAX_NUMBER: Final = 2**63 - 1

#: Largest time limit in seconds, about 68 years.
MAX_SECONDS: Final = 2**31

#: How bodies may be encoded. Python knows more codecs, some of which inflate what they read.
ENCODINGS: Final = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "latin-1", "iso-8859-1", "binary", "ascii-8bit"}
)

#: What two of Celery's serializers call plain bytes: no task message and no command is that.
RAW_TYPES: Final = frozenset({"application/data", "application/text"})

#: Header with the headers of further outcomes that a message rings for, and how many at most.
PEAL: Final = "tasks_app_peal"
LONGEST_PEAL: Final = 16

#: What of a message is a canvas: more calls, which Celery makes when this one ends.
CANVAS: Final = ("callbacks", "errbacks", "chain", "chord")

_TEXTS: Final = ("lang", "root_id", "parent_id", "group", "meth", "shadow", "origin")
_LONG_TEXTS: Final = ("argsrepr", "kwargsrepr", "eta", "expires")
_COUNTS: Final = ("retries", "group_index", "replaced_task_nesting", "clock")
_LISTS: Final = ("callbacks", "errbacks", "chain")


class Malformed(ValueError):
    """A message is not what it has to be; the text says where, never what was found there."""


def check_envelope(raw: Any) -> None:
    """
    Check what kombu's virtual transports keep: a mapping with the body and all about it.

    Raises:
        Malformed: it is no message.
    """
    _require(isinstance(raw, dict), "the message")
    for name in ("content-type", "content-encoding"):
        _require(_is_text(raw.get(name)), name)
    _require(isinstance(raw.get("body"), str), "the body")
    _require(raw.get("headers") is None or isinstance(raw["headers"], dict), "the headers")
    properties = raw.get("properties")
    _require(isinstance(properties, dict), "the properties")
    _check_properties(properties)


def _check_properties(properties: Mapping[str, Any]) -> None:
    _require(_is_text(properties.get("delivery_tag")), "the delivery tag")
    _require(properties.get("body_encoding") in {None, "base64"}, "the body's encoding")
    _require(_is_count(properties.get("priority")), "the priority")
    for name in ("reply_to", "correlation_id"):
        _require(_is_text_or_empty(properties.get(name)), name)
    info = properties.get("delivery_info")
    _require(isinstance(info, dict), "the delivery info")
    for name in ("exchange", "routing_key"):
        _require(_is_text_or_empty(info.get(name)), name)  # type: ignore[union-attr]  # it is a mapping by now


def check_content(content_type: Any, content_encoding: Any) -> None:
    """
    Check how a body says it is encoded, before anybody believes it.

    Raises:
        Malformed: bytes of no kind, or a codec that no serializer uses.
    """
    _require(_is_text(content_type) and content_type not in RAW_TYPES, "the content type")
    known = isinstance(content_encoding, str) and content_encoding.lower() in ENCODINGS
    _require(known, "the content encoding")


def check_headers(headers: Any) -> None:
    """
    Check the headers of any message.

    Raises:
        Malformed: they are no flat mapping, or what many read has the wrong type.
    """
    _require(isinstance(headers, dict), "the headers")
    _require(is_shallow(headers), "the headers' depth")
    _require(_is_count(headers.get("clock")), "clock")


def check_task(headers: Mapping[str, Any], payload: Any) -> None:
    """
    Check a task message, in Celery's second protocol or its first.

    Raises:
        Malformed: a part that Celery or this app reads is missing or has the wrong type.
    """
    _require(is_shallow(payload), "the body's depth")
    if isinstance(payload, dict):
        _require("args" in payload or "task" not in headers, "the body")
        _check_fields({**payload, **headers})
        args, kwargs, embedded = payload.get("args", []), payload.get("kwargs", {}), payload
    else:
        _require(isinstance(payload, list | tuple) and len(payload) == 3, "the body")  # noqa: PLR2004 - its three parts
        # Celery writes them into the body, where the seal is asked for, and would read them here.
        _require(not any(headers.get(name) for name in CANVAS), "the canvas")
        _check_fields(headers)
        _check_peal(headers)
        args, kwargs, embedded = payload
    _require(isinstance(args, list | tuple), "the positional arguments")
    _require(_are_keywords(kwargs), "the keyword arguments")
    _check_embedded(embedded)


def check_command(body: Any, reply_exchange: str) -> None:
    """
    Check a command of Celery's remote control.

    Raises:
        Malformed: it is none, or its answer would go anywhere but to a reply queue.
    """
    _require(isinstance(body, dict) and is_shallow(body), "the command")
    _require(_is_text(body.get("method")), "the command's name")
    arguments = body.get("arguments")
    _require(arguments is None or _are_keywords(arguments), "the command's arguments")
    destination = body.get("destination")
    _require(destination is None or _are_texts(destination), "the destination")
    for name in ("pattern", "matcher", "ticket"):
        _require(_is_text_or_none(body.get(name)), name)
    reply_to = body.get("reply_to")
    if reply_to is not None:
        _require(isinstance(reply_to, dict), "reply_to")
        _require(set(reply_to) == {"exchange", "routing_key"}, "reply_to")
        _require(reply_to["exchange"] == reply_exchange, "reply_to")
        _require(_is_text(reply_to["routing_key"]), "reply_to")


def check_event(body: Any) -> None:
    """
    Check an event of a worker.

    Raises:
        Malformed: it is none, or what workers keep of each other has the wrong type.
    """
    _require(isinstance(body, dict) and is_shallow(body), "the event")
    for name in ("type", "hostname"):
        _require(_is_text(body.get(name)), name)
    for name in ("clock", "pid", "active", "processed"):
        _require(_is_count(body.get(name)), name)
    for name in ("timestamp", "freq", "utcoffset"):
        _require(_is_measure(body.get(name)), name)


def _are_keywords(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_key, value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_measure(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) <= MAX_NUMBER
    )


def _is_key(name: Any) -> bool:
    return isinstance(name, str)


def _check_fields(headers: Mapping[str, Any]) -> None:
    for name in ("task", "id"):
        _require(_is_text(headers.get(name)), name)
    for name in _TEXTS:
        _require(_is_text_or_empty(headers.get(name)), name)
    for name in _LONG_TEXTS:
        _require(isinstance(headers.get(name), str | None), name)
    for name in _COUNTS:
        _require(_is_count(headers.get(name)), name)
    _require(isinstance(headers.get("ignore_result"), bool | None), "ignore_result")
    _require(_are_limits(headers.get("timelimit")), "the time limits")
    _require(_are_stamps(headers), "the stamps")
    _require(isinstance(headers.get("headers"), dict | None), "the headers")


def _check_peal(headers: Mapping[str, Any]) -> None:
    """Check the headers of further outcomes: the same names, and no other task's."""
    peal = headers.get(PEAL, [])
    _require(isinstance(peal, list) and len(peal) < LONGEST_PEAL, "the peal")
    for own in peal:
        _require(
            isinstance(own, dict) and own.keys() <= headers.keys() - {"task", PEAL}, "the peal"
        )
        _require("id" in own, "the peal")
        _check_fields({**headers, **own})


def _check_embedded(embedded: Any) -> None:
    _require(isinstance(embedded, dict | None), "the canvas")
    for name in _LISTS:
        signatures = (embedded or {}).get(name)
        if signatures is not None:
            _require(isinstance(signatures, list | tuple), name)
            _require(all(map(_is_signature, signatures)), name)
    chord = (embedded or {}).get("chord")
    _require(chord is None or _is_signature(chord), "chord")


def _is_signature(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("task"))
        and isinstance(value.get("args", []), list | tuple | None)
        and isinstance(value.get("kwargs", {}), dict | None)
        and isinstance(value.get("options", {}), dict | None)
        and _is_text_or_none(value.get("subtask_type"))
    )


def is_shallow(value: Any) -> bool:
    """Tell whether a value has at most `MAX_DEPTH` levels; itself without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return True
    return False


def names_tasks(value: Any) -> set[str]:
    """Return the names of the tasks of every signature in a value that is shallow."""
    found: set[str] = set()
    level = [value]
    while level:
        found.update(
            str(part["task"]) for part in level if isinstance(part, dict) and "task" in part
        )
        level = [child for parent in level for child in _children(parent)]
    return found


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _require(is_met: bool, place: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not is_met:
        raise Malformed(place)


def _is_text(value: Any) -> bool:
    """Tell whether a value is a short text that can stand in a log line."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_text_or_empty(value: Any) -> bool:
    return value == "" or _is_text_or_none(value)


def _is_count(value: Any) -> bool:
    return value is None or (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
    )


def _are_limits(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_limit, value))  # noqa: PLR2004 - hard and soft


def _is_limit(value: Any) -> bool:
    return value is None or (_is_measure(value) and 0 <= value <= MAX_SECONDS)


def _are_stamps(headers: Mapping[str, Any]) -> bool:
    names, stamps = headers.get("stamped_headers"), headers.get("stamps")
    return (names is None or _are_texts(names)) and isinstance(stamps, dict | None)
