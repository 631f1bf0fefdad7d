"""
Failures by kind: the newest causes of a range, grouped by fingerprint.

A bounded number of causes is read, by the index on their time, whatever the range: a table with
millions of failures answers as fast as one with a few thousand, and the answer says where it ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Self

from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from tasks_app.admin.sparklines import Sparkline
from tasks_app.models import Cause
from tasks_app.statements import together
from tasks_app.states import Reason

#: Causes that are grouped, of which there may be more in the range.
GROUPED = 20_000

#: Bars of a sparkline.
STEPS = 24

#: Ranges by their name in the address, and as a page calls them; None: since ever.
RANGES: Mapping[str, tuple[str, timedelta | None]] = {
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
    "all": ("all time", None),
}
DEFAULT_RANGE = "7d"


def where(error_type: str, place: str) -> str:
    """Tell where a failure comes from."""
    if place:
        return f"in {place}"
    is_reason = error_type in {str(reason) for reason in Reason}
    return (
        "nothing was raised"
        if is_reason
        else "not in the project\N{RIGHT SINGLE QUOTATION MARK}s code"
    )


@dataclass(slots=True)
class Kind:
    """Failures of one fingerprint."""

    fingerprint: str
    error_type: str
    place: str
    first_at: datetime
    last_at: datetime
    count: int = 0
    #: Of them, those that were replayed.
    replayed: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=lambda: [0] * STEPS)
    #: One line, as the outcome has it.
    latest_error: str = ""
    sparkline: Sparkline | None = None

    @property
    def where(self) -> str:
        return where(self.error_type, self.place)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(row["fingerprint"], row["error_type"], row["place"], row["first"], row["last"])

    def take(self, row: Mapping[str, Any]) -> None:
        """Add what was counted of one task."""
        self.count += row["count"]
        self.replayed += row["replayed"]
        self.tasks[row["task_name"]] = self.tasks.get(row["task_name"], 0) + row["count"]
        self.first_at, self.last_at = (
            min(self.first_at, row["first"]),
            max(self.last_at, row["last"]),
        )
        since = [row["count"], *(row[f"since_{place}"] for place in range(1, STEPS)), 0]
        steps = (more - less for more, less in pairwise(since))
        self.numbers = [sum(both) for both in zip(self.numbers, steps, strict=True)]


@dataclass(frozen=True, slots=True)
class Window:
    """
    The causes that a page speaks of.

    Attributes:
        rows: At most `GROUPED` of them, the newest.
        start: The time from which on none is left out.
        end: Now.
        is_cut: There are older ones in the range.
    """

    rows: QuerySet[Cause]
    start: datetime
    end: datetime
    is_cut: bool

    @classmethod
    def of(cls, rows: QuerySet[Cause], length: timedelta | None) -> Self:
        """Return the newest causes of a range that ends now; its length None means all."""
        end = timezone.now()
        if length is not None:
            rows = rows.filter(failed_at__gt=end - length)
        times = rows.values_list("failed_at", flat=True)
        beyond = times.order_by("-failed_at")[GROUPED : GROUPED + 1].first()
        if beyond is not None:
            return cls(rows.filter(failed_at__gt=beyond), beyond, end, is_cut=True)
        start = end - length if length is not None else times.order_by("failed_at").first()
        return cls(rows, start or end, end, is_cut=False)

    def kinds(self) -> list[Kind]:
        """Return the kinds, the most frequent first, in one statement."""
        found: dict[str, Kind] = {}
        for row in self._counted():
            found.setdefault(row["fingerprint"], Kind.of(row)).take(row)
        for kind in found.values():
            kind.sparkline = Sparkline(kind.numbers, f"Failures since {self.start:%Y-%m-%d %H:%M}")
        return sorted(found.values(), key=lambda kind: (-kind.count, kind.fingerprint))

    def _counted(self) -> Iterable[Mapping[str, Any]]:
        """Count by kind and task: all, and those since each edge of the steps but the first."""
        step = (self.end - self.start) / STEPS
        since = {
            f"since_{place}": Count("pk", filter=Q(failed_at__gte=self.start + step * place))
            for place in range(1, STEPS)
        }
        rows = self.rows.order_by().values("fingerprint", "error_type", "place", "task_name")
        return rows.annotate(
            count=Count("pk"),
            replayed=Count("replayed_at"),
            first=Min("failed_at"),
            last=Max("failed_at"),
            **since,
        )


def tell_latest(kinds: Iterable[Kind]) -> None:
    """Read the error of each kind's newest failure, by one statement."""
    wanted = {kind.fingerprint: kind for kind in kinds}
    newest = Cause.objects.order_by("-failed_at").values_list("fingerprint", "outcome__error")
    for fingerprint, error in together(
        [newest.filter(fingerprint=fingerprint)[:1] for fingerprint in wanted]
    ):
        wanted[fingerprint].latest_error = error
