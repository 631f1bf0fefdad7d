"""
What a search term of the list means, and which outcomes it finds.

An outcome id or its first digits, a request id, an idempotency key, a user's name, or an argument.
An argument is found by those who may see it, as they see it: what is masked on the page is never
compared, so a search tells no secret.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, DecimalException
from functools import reduce
from operator import or_
from typing import Any, NoReturn
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from tasks_app import arguments, declare
from tasks_app.admin.conditions import has_text
from tasks_app.admin.rights import may_read_arguments
from tasks_app.exceptions import InvalidArgument
from tasks_app.idempotency import holders_of
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.options import TaskOptions, declared
from tasks_app.redaction import mask_arguments, positional_names, secret_names
from tasks_app.selection import SelectionError, ids_that_begin

HELP = (
    "An outcome id or its first 8 digits, a request id, an idempotency key, owner:NAME, or an"
    " argument: arg:order_id=7, arg:0=7."
)

ARGUMENT, OWNER = "arg:", "owner:"

#: Longest text that any of the searched columns may hold.
LONGEST = 255

#: Calls whose arguments are read to find those with the one that is looked for.
CANDIDATES = 200

#: Longest value that is looked for among arguments, in bytes of JSON.
LONGEST_VALUE = 2_000


class BadTerm(ValueError):
    """The term cannot find anything; the text says why, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Named:
    """What an index finds by a term."""

    condition: Q
    #: Ids among which all of it lies, where the term tells.
    scope: Q = field(default_factory=Q)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An argument that is looked for."""

    #: Its name; of a positional one its place, in digits.
    name: str
    #: Its value as canonical JSON, in each type that the text may stand for.
    texts: tuple[str, ...]

    @property
    def place(self) -> int | None:
        return int(self.name) if re.fullmatch("[0-9]{1,3}", self.name) else None


def named(term: str) -> Named | None:
    """Return what an index finds by a term: by its id, request or key; None where nothing is."""
    by_id = outcome_uuid(term)
    if by_id is not None and _exists(Q(pk=by_id)):
        return Named(Q(pk=by_id))
    if _exists(Q(request_id=term)):
        return Named(Q(request_id=term))
    with suppress(SelectionError):
        beginning = Q(pk__range=ids_that_begin(term))
        if _exists(beginning):
            return Named(beginning, beginning)
    declare.load_tasks()
    # By the text in the row, too: the keys' table would find a key that was made of secrets.
    held = Q(pk__in=holders_of(list(declared), term), idempotency_key=term)
    return Named(held) if _exists(held) else None


def owned(term: str) -> Q:
    """Return the condition of a term such as `owner:alice`."""
    name = term.removeprefix(OWNER).strip()
    users = get_user_model()
    try:
        manager: Any = users._default_manager  # noqa: SLF001 - as Django's own backend does
        user = manager.get_by_natural_key(name)
    except users.DoesNotExist:
        raise BadTerm(f"There is no user “{name}”.") from None
    return Q(owner_id=user.pk)


def wanted(term: str, request: Any) -> Wanted:
    """
    Read a term such as `arg:order_id=7`.

    Raises:
        BadTerm: it is written otherwise, or nobody, or not this user, may look for it.
    """
    if not may_read_arguments(request):
        raise BadTerm(
            "To search by argument you need the permission “Can see arguments and results”."
        )
    match = re.fullmatch(r"([^=\s]+)=(.*)", term.removeprefix(ARGUMENT).strip(), re.DOTALL)
    if match is None:
        raise BadTerm("Write an argument as arg:order_id=7, or arg:0=7 for the first positional.")
    name, text = match.groups()
    declare.load_tasks()
    if name in secret_names():
        raise BadTerm(
            f"“{name}” is redacted by this project or by one of its tasks: nobody can search by it."
        )
    return Wanted(name, tuple(dict.fromkeys(_encoded(text))))


def candidates(rows: QuerySet[Outcome], wish: Wanted) -> QuerySet[Outcome]:
    """Return the rows that have the wanted text where it may be looked for."""
    tasks: dict[tuple[int, ...], list[str]] = {}
    for task_name, options in declared.items():
        tasks.setdefault(_places(wish, options), []).append(task_name)
    condition = Q(task_name__in=list(declared)) & _among_keywords(wish)
    for places, names in tasks.items():
        if places:
            condition |= Q(task_name__in=names) & _among_positional(wish, places)
    return rows.filter(condition)


def matching(rows: QuerySet[Outcome], wish: Wanted) -> Iterator[tuple[UUID, bool]]:
    """Yield the id of each candidate, and whether it shows the wanted argument to its readers."""
    columns = rows.values_list("pk", "task_name", "args_json", "kwargs_json")
    for pk, task_name, args_json, kwargs_json in columns[:CANDIDATES]:
        args, kwargs = mask_arguments(
            task_name, arguments.decode(args_json), arguments.decode(kwargs_json)
        )
        yield pk, any(_is_wanted(wish, value) for value in _values(wish, task_name, args, kwargs))


def _values(wish: Wanted, task_name: str, args: list[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    if wish.place is not None:
        yield from args[wish.place : wish.place + 1]
        return
    names = positional_names(declared[task_name].signature, len(args))
    yield from (value for name, value in zip(names, args, strict=True) if name == wish.name)
    if wish.name in kwargs:
        yield kwargs[wish.name]


def _places(wish: Wanted, options: TaskOptions) -> tuple[int, ...]:
    """Return where among a task's positional arguments the wanted one may stand."""
    most = len(options.signature.parameters) if wish.place is None else wish.place + 1
    names = enumerate(positional_names(options.signature, most))
    return tuple(
        place
        for place, name in names
        if (name == wish.name or place == wish.place) and name not in options.secret_names
    )


def _among_positional(wish: Wanted, places: tuple[int, ...]) -> Q:
    return reduce(or_, (_at(place, text) for place in places for text in wish.texts))


def _among_keywords(wish: Wanted) -> Q:
    if wish.place is not None:
        return Q(pk__in=())
    members = (f"{json.dumps(wish.name)}:{text}{end}" for text in wish.texts for end in ",}")
    return reduce(or_, (has_text("kwargs_json", member) for member in members))


def _at(place: int, text: str) -> Q:
    if place == 0:
        return Q(args_json__startswith=f"[{text},") | Q(args_json=f"[{text}]")
    return has_text("args_json", f",{text},") | has_text("args_json", f",{text}]")


def _encoded(text: str) -> Iterator[str]:
    """Yield the JSON of each value that a text may stand for."""
    for read in (str, _scalar, UUID, Decimal, date.fromisoformat, datetime.fromisoformat):
        with suppress(ValueError, DecimalException, InvalidArgument):
            yield _encode(read(text))


def _scalar(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_refuse)


def _refuse(pairs: Any) -> NoReturn:
    raise ValueError(pairs)


def _encode(value: Any) -> str:
    """Return a value as it stands among arguments; raises InvalidArgument where it cannot."""
    return arguments.encode_arguments((value,), {}, LONGEST_VALUE)[0][1:-1]


def _is_wanted(wish: Wanted, value: Any) -> bool:
    with suppress(InvalidArgument):
        return _encode(value) in wish.texts
    return False


def _exists(condition: Q) -> bool:
    return Outcome.objects.filter(condition).exists()
