"""
When a schedule's slots are due, in the words of Sentry's cron monitors.

They know crontabs, and intervals of whole minutes. Of anything else Sentry is told only what
happened; when it should have happened, whoever makes the monitor says there.
"""

from typing import Any

from celery.schedules import crontab, schedule

from tasks_app.integrations.sentry.slots import Slot

#: Seconds of the units that Sentry knows, the longest first.
UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60))


def monitor_config(slot: Slot) -> dict[str, Any] | None:
    """Return when Sentry is to expect a schedule's slots; None where it has no words for it."""
    told = _crontab(slot.schedule) or _interval(slot.schedule)
    return told and {"schedule": told, "timezone": slot.timezone}


def _crontab(when: Any) -> dict[str, Any] | None:
    if not isinstance(when, crontab):
        return None
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    value = " ".join(str(getattr(when, f"_orig_{field}")) for field in fields)
    return {"type": "crontab", "value": value}


def _interval(when: Any) -> dict[str, Any] | None:
    if not isinstance(when, schedule):
        return None
    for unit, seconds in UNITS:
        count, rest = divmod(when.seconds, seconds)
        if count and not rest:
            return {"type": "interval", "value": int(count), "unit": unit}
    return None
