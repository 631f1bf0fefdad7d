"""
How far the list looks, so that it answers at once however many outcomes there are.

Where an index serves filters and order, all rows are looked at: ids, requests, and the tabs of
final states, whose order is that of the index. Elsewhere the newest `REACH` rows are; the page says
so and leads further back. Nothing counts the table.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from tasks_app.models import Outcome, outcome_uuid
from tasks_app.selection import FIRST_ID
from tasks_app.states import FINAL, State

#: Rows that a look without an index reads: some 100 ms on a small PostgreSQL.
REACH = 20_000

#: So many rows are sorted rather than read in the order of an index.
FEW = 5_000

#: Milliseconds of a UUIDv7: its first hexadecimal digits.
TIME_DIGITS = 12

VERSION = 7

NEWEST_FIRST = ("-pk",)


@dataclass(frozen=True, slots=True)
class Look:
    """The rows of a list, the newest first, and where the look ended."""

    rows: QuerySet[Outcome]
    #: Begins the next look, further back; empty where nothing older is left.
    before: str = ""
    #: When the oldest row of this look was enqueued or finished; None where its id has no time.
    since: datetime | None = None


def first_id(moment: datetime) -> UUID:
    """Return the first UUIDv7 of a moment, to the millisecond."""
    digits = f"{int(moment.timestamp() * 1000):0{TIME_DIGITS}x}"
    return UUID(digits + FIRST_ID[TIME_DIGITS:])


def moment_of(outcome_id: UUID) -> datetime | None:
    """Return the time in a UUIDv7; None for an id that Celery or a caller chose."""
    if outcome_id.version != VERSION:
        return None
    return datetime.fromtimestamp(int(outcome_id.hex[:TIME_DIGITS], 16) / 1000, UTC)


def few(rows: QuerySet[Outcome], *order: str) -> bool:
    """Tell whether an index in this order has few rows; reads no more of it than that."""
    return not rows.order_by(*order).values_list("pk", flat=True)[FEW : FEW + 1]


def sorted_by_time(rows: QuerySet[Outcome]) -> QuerySet[Outcome]:
    """Sort few rows: by a column without an index, so that no index is read for its order."""
    return rows.order_by("-created_at", *NEWEST_FIRST)


def in_tab(rows: QuerySet[Outcome], state: str, *, is_narrowed: bool, before: str) -> Look:
    """
    Look at the rows of a tab.

    Args:
        rows: What passes all filters.
        state: The tab's state; empty: all.
        is_narrowed: Filters hold beside the state, which no index serves.
        before: Where an earlier look ended.
    """
    if state in FINAL:
        rows = rows.order_by("-finished_at", *NEWEST_FIRST)
        if is_narrowed or before:
            return _by_end(rows, Outcome.objects.filter(state=state), before)
        return Look(rows)
    if state in {State.PENDING, State.RUNNING}:
        index = ("state", "queue", "priority", "announce_at", "pk")
        if few(Outcome.objects.filter(state=state), *index):
            return Look(sorted_by_time(rows))
    elif not is_narrowed and not before:
        return Look(rows.order_by(*NEWEST_FIRST))
    return by_id(rows, Outcome.objects.all(), before)


def by_id(rows: QuerySet[Outcome], scope: QuerySet[Outcome], before: str) -> Look:
    """Look at the rows among the newest ids of a scope."""
    rows = rows.order_by(*NEWEST_FIRST)
    limit = outcome_uuid(before)
    if limit is not None:
        rows, scope = rows.filter(pk__lt=limit), scope.filter(pk__lt=limit)
    edge = _edge(scope, "pk")
    if edge is None:
        return Look(rows)
    return Look(rows.filter(pk__gte=edge), str(edge), moment_of(edge))


def _by_end(rows: QuerySet[Outcome], scope: QuerySet[Outcome], before: str) -> Look:
    """Look at the rows among those of one final state that finished last."""
    limit = _moment(before)
    if limit is not None:
        rows, scope = rows.filter(finished_at__lt=limit), scope.filter(finished_at__lt=limit)
    edge = _edge(scope, "finished_at")
    if edge is None:
        return Look(rows)
    return Look(rows.filter(finished_at__gte=edge), edge.isoformat(), edge)


def _edge(scope: QuerySet[Outcome], key: str) -> Any:
    """Return the key of the last row within reach; None where that is all there are."""
    keys = scope.order_by(f"-{key}").values_list(key, flat=True)
    return next(iter(keys[REACH : REACH + 1]), None)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
