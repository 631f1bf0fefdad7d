"""
A selection as texts: the parameters of an address of the console's list, and what a row keeps.

What a text says and a `Selection` cannot express is refused, never left out: an act would meet
more outcomes than somebody meant.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tasks_app.arguments import has_surrogate
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.selection import (
    NOBODY,
    Selection,
    SelectionError,
    ids_that_begin,
    read_age,
    read_state,
)
from tasks_app.states import State


def from_query(parameters: Any, user: Any = None) -> Selection:
    """
    Return what an address of the console's list selects.

    Args:
        parameters: Django's `QueryDict`.
        user: Whom `owner=me` means.

    Raises:
        SelectionError: a parameter narrows the list in a way that no selection expresses.
    """
    given: dict[str, Any] = {}
    for name, texts in parameters.lists():
        if name in VIEWS or texts == [""]:
            continue
        if name not in PARAMETERS:
            raise SelectionError(f"The filter {name!r} cannot be used to act on all that matches.")
        more = PARAMETERS[name](texts)
        if more.keys() & given.keys():
            raise SelectionError(f"{name!r} and another filter mean the same; give one of them.")
        given.update(more)
    if given.get("owner") == "me":
        given["owner"] = NOBODY if user is None else str(user.pk)
    return Selection(**given)


def as_json(selection: Selection) -> str:
    """Return the frozen selection as a text; see `from_json`."""
    frozen = selection.frozen()
    values = {field.name: getattr(frozen, field.name) for field in fields(frozen)}
    given = {name: value for name, value in values.items() if value not in {None, ()}}
    if selection.ids is not None:
        given["ids"] = selection.ids
    return json.dumps(given, default=str)


def from_json(text: str) -> Selection:
    """
    Return the selection of which `as_json` made a text.

    Raises:
        SelectionError: it is no such text.
    """
    try:
        given = json.loads(text)
        unknown = given.keys() - KEPT.keys()
        if unknown:
            raise SelectionError(f"No selection has {', '.join(sorted(unknown))}.")
        return Selection(**{name: KEPT[name](value) for name, value in given.items()})
    except (AttributeError, TypeError, RecursionError) as error:
        raise SelectionError(f"{text[:80]!r} is no selection.") from error
    except ValueError as error:  # what `json` raises, and SelectionError
        raise SelectionError(str(error)) from error


def read_ids(texts: Iterable[Any]) -> tuple[UUID, ...]:
    """Return whole ids, or raise SelectionError."""
    ids = [(text, outcome_uuid(text)) for text in texts]
    for text, found in ids:
        if found is None:
            raise SelectionError(f"{str(text)[:80]!r} is no outcome id.")
    return tuple(dict.fromkeys(found for _, found in ids if found is not None))


def read_text(text: Any) -> str:
    """Return a text that every database takes, or raise SelectionError."""
    if not isinstance(text, str) or "\0" in text or has_surrogate(text):
        raise SelectionError("A filter's value is a text without NUL.")
    return text


def searched(term: str) -> dict[str, Any]:
    """
    Return which filter the list's search means: whatever it finds first by that term.

    Raises:
        SelectionError: it looks for what no filter expresses.
    """
    text = read_text(term).strip()
    if text.startswith(ARGUMENT):
        raise SelectionError("A search by argument cannot be used for all: tick those you mean.")
    if text.startswith(OWNER):
        return {"owner": _user_pk(text.removeprefix(OWNER).strip())}
    by_id = outcome_uuid(text)
    if by_id is not None and Outcome.objects.filter(pk=by_id).exists():
        return {"ids": (by_id,)}
    if Outcome.objects.filter(request_id=text).exists():
        return {"request_id": text}
    with suppress(SelectionError):
        beginning = ids_that_begin(text)
        if Outcome.objects.filter(pk__range=beginning).exists():
            return {"id_range": beginning}
    ids = list(Outcome.objects.filter(idempotency_key=text).values_list("pk", flat=True)[:2])
    if len(ids) > 1:
        raise SelectionError("Several outcomes have had this key: tick those you mean.")
    return {"ids": tuple(ids)}


def _user_pk(name: str) -> str:
    users = get_user_model()
    manager: Any = users._default_manager  # noqa: SLF001 - its name in any model
    try:
        return str(manager.get_by_natural_key(name).pk)
    except users.DoesNotExist:
        raise SelectionError(f"There is no user {name!r}.") from None


def _one(texts: list[str]) -> str:
    if len(texts) > 1:
        raise SelectionError("Give each filter once.")
    return read_text(texts[0])


def _fingerprint(text: Any) -> str:
    if not re.fullmatch("[0-9a-f]{1,32}", read_text(text)):
        raise SelectionError(f"{text[:80]!r} is no fingerprint of failures.")
    return str(text)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise SelectionError("Names are given as a list.")
    return tuple(read_text(value) for value in values)


def _states(values: Any) -> tuple[State, ...]:
    return tuple(read_state(text) for text in _texts(values))


def _duration(text: str) -> tuple[int, int | None]:
    if text not in DURATIONS:
        raise SelectionError(f"{text[:80]!r} is no run time; there are {', '.join(DURATIONS)}.")
    return DURATIONS[text]


def _ran(value: Any) -> tuple[int, int | None]:
    least, most = value
    if (least, most) not in DURATIONS.values():
        raise SelectionError("That is no run time.")
    return least, most


def _two(ids: tuple[UUID, ...]) -> tuple[UUID, UUID]:
    first, last = ids
    return first, last


def _read_moment(text: Any) -> datetime:
    moment = parse_datetime(read_text(text))
    if moment is None or timezone.is_naive(moment):
        raise SelectionError(f"{text[:80]!r} is no moment with a time zone.")
    return moment


#: Parameters of the list's address that say how it is shown, not what.
VIEWS = frozenset({"action", "all", "before", "e", "o", "p"})

#: Terms of the list's search that begin so are no ids, request ids or keys.
ARGUMENT, OWNER = "arg:", "owner:"

#: Run times of the list's filter, in seconds: at least, and less than.
DURATIONS: Mapping[str, tuple[int, int | None]] = {
    "1s": (0, 1),
    "10s": (1, 10),
    "1m": (10, 60),
    "long": (60, None),
}

#: Those that say what: each becomes fields of a selection.
PARAMETERS: Mapping[str, Callable[[list[str]], dict[str, Any]]] = {
    "state": lambda texts: {"states": _states(texts)},
    "task": lambda texts: {"tasks": _texts(texts)},
    "queue": lambda texts: {"queues": _texts(texts)},
    "older_than": lambda texts: {"older_than": read_age(_one(texts))},
    "newer_than": lambda texts: {"newer_than": read_age(_one(texts))},
    "request_id": lambda texts: {"request_id": _one(texts)},
    "age": lambda texts: {"newer_than": read_age(_one(texts))},
    "duration": lambda texts: {"ran": _duration(_one(texts))},
    "owner": lambda texts: {"owner": _one(texts)},
    "periodic": lambda texts: {"schedule": _one(texts)},
    "fingerprint": lambda texts: {"fingerprint": _fingerprint(_one(texts))},
    "q": lambda texts: searched(_one(texts)),
}

#: What a kept selection may hold, and how it is read.
KEPT: Mapping[str, Callable[[Any], Any]] = {
    "states": _states,
    "tasks": _texts,
    "queues": _texts,
    "request_id": read_text,
    "idempotency_key": read_text,
    "fingerprint": _fingerprint,
    "created_until": _read_moment,
    "created_after": _read_moment,
    "owner": read_text,
    "schedule": read_text,
    "ran": _ran,
    "as_of": _read_moment,
    "id_range": lambda value: _two(read_ids(value)),
    "ids": read_ids,
}
