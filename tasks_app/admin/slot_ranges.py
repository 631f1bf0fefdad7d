"""A range of past slots that somebody asks for: read from a form, counted, or refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Slot
from tasks_app.periodic.entries import timetable_of
from tasks_app.periodic.slots import INSTANT, LEFT_OUT, MOST_BACKFILLED
from tasks_app.periodic.timetables import between

#: Years that a range may lie in: no clock of any zone runs out of numbers there.
YEARS = range(1971, 9999)

#: What is said of a time that is none.
WANTED = "Give two times, the earlier one first."


def zone_of(entry: Any) -> str:
    """Return the time zone in which an entry's times are meant."""
    zone = getattr(entry.crontab, "timezone", None)
    return str(zone or timezone.get_default_timezone_name())


@dataclass(frozen=True, slots=True)
class Range:
    """
    Slots from one time to another, both included.

    Attributes:
        texts: Both times, as the form has them.
        times: Both times; None where it is refused.
        refusal: Why it cannot be backfilled; "" where it can.
        count: Slots that would fire.
        decided: Slots of it that have enqueued something already.
    """

    texts: tuple[str, str]
    times: tuple[datetime, datetime] | None = None
    refusal: str = ""
    count: int = 0
    decided: int = 0

    @classmethod
    def asked(cls, entry: Any, form: Mapping[str, str]) -> Self | None:
        """Return the range that a form names, in the entry's zone; None where it names none."""
        texts = form.get("since", ""), form.get("until", "")
        if not any(texts):
            return None
        since, until = (_moment(text, zone_of(entry)) for text in texts)
        if since is None or until is None or since > until:
            return cls(texts, refusal=WANTED)
        try:
            timetable = timetable_of(entry)
        except ConfigurationError as error:
            return cls(texts, refusal=str(error))
        last = min(until, timezone.now())
        wanted = list(between(timetable, since - INSTANT, last, MOST_BACKFILLED + 1))
        if len(wanted) > MOST_BACKFILLED:
            most = f"These are more than {MOST_BACKFILLED:,} slots: choose a shorter range."
            return cls(texts, refusal=most)
        is_open = Q(outcome_id=None, decision__in=LEFT_OUT)
        there = Slot.objects.filter(entry_id=entry.pk, slot_at__in=wanted)
        decided = there.exclude(is_open).count()
        return cls(texts, (since, until), "", len(wanted) - decided, decided)

    @property
    def words(self) -> str:
        """How many slots it has, and how many of them would fire."""
        if not self.count and not self.decided:
            return "That range has no slot of the past."
        told = f"{self.count:,} slot{'' if self.count == 1 else 's'} of that range would fire now."
        if self.decided:
            told += f" {self.decided:,} had their turn already and stay as they are."
        return told

    def __str__(self) -> str:
        return " to ".join(self.texts)


def _moment(text: str, zone: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    if found is None or found.year not in YEARS or timezone.is_aware(found):
        return None
    return timezone.make_aware(found, ZoneInfo(zone))
