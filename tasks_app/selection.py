"""
Which outcomes an operator means: filters, or ids given whole or by their first digits.

Reading only; ages count from `created_at` on the database's clock. `list` and the acts on many
outcomes read the same filters, so what `list` shows is what `retry` and `cancel` would meet.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import F, Q, Value
from django.db.models.functions import StrIndex
from django.db.models.lookups import GreaterThan
from django.utils import timezone

from tasks_app.clock import DatabaseNow
from tasks_app.durations import LONGEST
from tasks_app.models import Outcome
from tasks_app.states import State
from tasks_app.stock import SCHEDULE
from tasks_app.suggestions import did_you_mean

#: Fewest hexadecimal digits by which an outcome may be called.
SHORTEST_PREFIX = 8

#: First and last UUIDv7. The version's digit stays in the bounds of a range: MariaDB sorts other
#: versions by other bytes.
FIRST_ID = "00000000000070008000000000000000"
LAST_ID = "ffffffffffff7fffbfffffffffffffff"

#: Stands for outcomes without an owner.
NOBODY = "none"

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SelectionError(ValueError):
    """What was given selects no outcome, or more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters that all hold; an empty one does not filter."""

    states: tuple[State, ...] = ()
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    #: Of the failures that `models.Cause` groups.
    fingerprint: str | None = None
    #: What `older_than` and `newer_than` meant at the moment of `frozen()`.
    created_until: datetime | None = None
    created_after: datetime | None = None
    #: Primary key of the user it was enqueued for, as text; "none" for nobody.
    owner: str | None = None
    #: Name of the schedule that it is of; "yes" for any, "no" for none.
    schedule: str | None = None
    #: Seconds that it ran at least, and less than; None: no limit.
    ran: tuple[int, int | None] | None = None
    #: To when the time of a running one is counted; null until `frozen()`, which means now.
    as_of: datetime | None = None
    #: First and last of the ids that begin with some digits.
    id_range: tuple[UUID, UUID] | None = None
    #: None filters nothing; an empty tuple lets nothing pass.
    ids: tuple[UUID, ...] | None = None

    def __bool__(self) -> bool:
        return self != Selection()

    def __str__(self) -> str:
        """Return the filters in words."""
        return "; ".join(self._words()) or "no filter: every outcome"

    def outcomes(self) -> Any:
        """Return the outcomes that pass every filter, the newest first."""
        rows = Outcome.objects.order_by("-pk")
        for field, values in (
            ("state", self.states),
            ("task_name", self.tasks),
            ("queue", self.queues),
        ):
            if values:
                rows = rows.filter(**{f"{field}__in": values})
        if self.older_than is not None:
            rows = rows.filter(created_at__lte=DatabaseNow() - self.older_than)
        if self.newer_than is not None:
            rows = rows.filter(created_at__gt=DatabaseNow() - self.newer_than)
        for lookup, value in (
            ("request_id", self.request_id),
            ("idempotency_key", self.idempotency_key),
            ("cause__fingerprint", self.fingerprint),
            ("created_at__lte", self.created_until),
            ("created_at__gt", self.created_after),
            ("pk__range", self.id_range),
            ("pk__in", self.ids),
        ):
            if value is not None:
                rows = rows.filter(**{lookup: value})
        return rows.filter(self._of_owner(), self._of_schedule(), self._of_duration())

    def _of_owner(self) -> Q:
        if self.owner is None:
            return Q()
        if self.owner == NOBODY:
            return Q(owner_id=None)
        try:
            return Q(owner_id=Outcome._meta.get_field("owner").target_field.to_python(self.owner))
        except ValidationError:
            return Q(pk__in=())

    def _of_schedule(self) -> Q:
        if self.schedule is None:
            return Q()
        if self.schedule in {"yes", "no"}:
            is_of_any = _has_text("options_json", f'"{SCHEDULE}":')
            return is_of_any if self.schedule == "yes" else ~is_of_any
        name = json.dumps(self.schedule)
        # Both spellings of JSON; a whole text with its quotes, so it begins nothing.
        return _has_text("options_json", f'"{SCHEDULE}":{name}') | _has_text(
            "options_json", f'"{SCHEDULE}": {name}'
        )

    def _of_duration(self) -> Q:
        if self.ran is None:
            return Q()
        return ran_for(*self.ran, self.as_of)

    def frozen(self) -> "Selection":
        """Return the selection with ages counted from now on, so that it means the same later."""
        older, newer = self.older_than, self.newer_than
        counts_on = self.ran is not None and self.as_of is None
        if older is None and newer is None and not counts_on:
            return self
        row = Outcome.objects.annotate(now=DatabaseNow()).values_list("now").first()
        now = timezone.now() if row is None else row[0]
        until = [each for each in (self.created_until, older and now - older) if each]
        after = [each for each in (self.created_after, newer and now - newer) if each]
        return replace(
            self,
            older_than=None,
            newer_than=None,
            created_until=min(until, default=None),
            created_after=max(after, default=None),
            as_of=now if counts_on else self.as_of,
        )

    def _words(self) -> Iterator[str]:
        for word, values in (
            ("state", self.states),
            ("task", self.tasks),
            ("queue", self.queues),
        ):
            if values:
                yield f"{word} {' or '.join(values)}"
        for word, value in (
            ("enqueued before the last", self.older_than),
            ("enqueued within the last", self.newer_than),
            ("enqueued until", self.created_until and _moment(self.created_until)),
            ("enqueued after", self.created_after and _moment(self.created_after)),
            ("request id", self.request_id),
            ("idempotency key", self.idempotency_key),
            ("cause of failure", self.fingerprint),
            ("owner", self.owner),
            ("schedule", self.schedule),
            ("run time", self.ran and _length(*self.ran)),
            ("id from", self.id_range and f"{self.id_range[0]} to {self.id_range[1]}"),
        ):
            if value is not None:
                yield f"{word} {value}"
        if self.ids is not None:
            yield f"id {self.ids[0]}" if len(self.ids) == 1 else f"{len(self.ids)} chosen ids"


def ran_for(least: int, most: int | None, now: datetime | None = None) -> Q:
    """
    Select what ran, or has run until now, for so many seconds at least, and for less than `most`.

    Without a lower bound none is asked for: SQLite keeps milliseconds, and its shortest runs would
    lie below it.
    """
    until: Any = now or DatabaseNow()
    ended = Q(started_at__isnull=False, finished_at__isnull=False)
    runs = Q(claimed_at__isnull=False)
    if least:
        ended &= Q(finished_at__gte=F("started_at") + timedelta(seconds=least))
        runs &= Q(claimed_at__lte=until - timedelta(seconds=least))
    if most is not None:
        ended &= Q(finished_at__lt=F("started_at") + timedelta(seconds=most))
        runs &= Q(claimed_at__gt=until - timedelta(seconds=most))
    return ended | runs


def _has_text(column: str, text: str) -> Q:
    # By a function: a search by LIKE takes PostgreSQL some five times as long.
    return Q(GreaterThan(StrIndex(column, Value(text)), 0))


def _length(least: int, most: int | None) -> str:
    return f"of {least} s or more" if most is None else f"from {least} s to {most} s"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.get_current_timezone()):%Y-%m-%d %H:%M:%S %Z}"


def read_state(text: str) -> State:
    """Return the state of that name, or raise SelectionError with the nearest one."""
    try:
        return State(text.lower())
    except ValueError:
        hint = did_you_mean(text.lower(), [str(state) for state in State])
        raise SelectionError(f"{text!r} is no state.{hint}") from None


def read_age(text: str) -> timedelta:
    """
    Return a span such as `90s`, `10m`, `1h30m`, `2d` or `1w`.

    >>> read_age("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        SelectionError: it is no such text, or longer than any row is kept.
    """
    parts = re.findall(r"(\d+)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SelectionError(f"{text!r} is no age; say it like 90s, 10m, 1h30m, 2d or 1w.")
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise SelectionError(f"{text!r} is longer than {LONGEST.days} days.")
    return timedelta(seconds=seconds)


def ids_that_begin(text: str) -> tuple[UUID, UUID]:
    """
    Return the first and the last id that begin with these digits.

    Raises:
        SelectionError: no id of an outcome begins so, or they are too few.
    """
    digits = text.replace("-", "").lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},32}}", digits):
        raise SelectionError(
            f"{text!r} is no outcome id: give a UUID or its first {SHORTEST_PREFIX} or more digits."
        )
    return (UUID(digits + FIRST_ID[len(digits) :]), UUID(digits + LAST_ID[len(digits) :]))


def find(text: str) -> Outcome:
    """
    Return the outcome with this id, or the only one whose id begins so.

    Raises:
        SelectionError: it cannot be an id, no outcome has it, or several begin with it.
    """
    bounds = ids_that_begin(text)
    found: list[Outcome] = list(Outcome.objects.filter(pk__range=bounds).order_by("pk")[:2])
    if not found:
        raise SelectionError(f"There is no outcome {text}.")
    if len(found) > 1:
        count = Outcome.objects.filter(pk__range=bounds).count()
        raise SelectionError(
            f"{text} is ambiguous: {count:,} outcomes begin so, such as {found[0].pk} and "
            f"{found[1].pk}. Give more digits."
        )
    return found[0]


def find_all(texts: Iterable[str]) -> list[UUID]:
    """Return the ids of several outcomes, each once, in the order given; see `find`."""
    return list(dict.fromkeys(find(text).pk for text in texts))
