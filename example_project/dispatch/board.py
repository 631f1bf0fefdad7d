"""What the page shows, as plain data: counts by state, totals, and the latest of everything.

The page is drawn from it once and refreshed from it as JSON, so both always agree.
"""

from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.urls import reverse
from django.utils import timezone

from example_project.dispatch.helpers import report
from example_project.dispatch.models import CountryMap, Job, LedgerEntry
from example_project.journal import Journal
from tasks_app.models import Slot, Timer

STATES = ("pending", "running", "succeeded", "failed", "cancelled", "expired")
#: How many of the latest mails, payments and so on, and maps, the page shows.
LATEST = 8
LATEST_MAPS = 12
#: The report on a schedule, and what the page tells of its slots.
SHIFT = "shift report"
DECISIONS = {"fired": "fired", "missed": "missed", "made_up": "made up"}


def board() -> dict[str, Any]:
    """Return everything the page shows about the latest job."""
    job = Job.objects.order_by("-pk").first()
    if job is None:
        empty = {"job": None, "states": dict.fromkeys(STATES, 0), "totals": {}, "done": 0, "all": 0}
        return {**empty, "shift": shift()}
    counted = report.by_state(job)
    states = {state: counted.get(state, 0) for state in STATES}
    return {
        "job": {
            "id": job.pk,
            "source": job.source,
            "stage": stage(job, states),
            "request_id": job.request_id,
            "report_id": job.report_id,
        },
        "states": states,
        "all": sum(states.values()),
        "done": sum(states.values()) - sum(states[state] for state in report.OPEN),
        "totals": report.totals(job),
        "maps": list(_maps()),
        "mails": list(_mails()),
        "ledger": list(_ledger()),
        "problems": list(job.problems.values("line", "reason")[:LATEST]),
        "failures": list(_failures(job)),
        "shift": shift(),
    }


def stage(job: Job, states: dict[str, int]) -> str:
    """Say in a few words how far a job is."""
    if job.finished_at:
        seconds = round((job.finished_at - job.created_at).total_seconds())
        return f"{'stopped after' if states['cancelled'] else 'finished in'} {seconds} s"
    if job.planned_at is None:
        return f"importing, {job.chunks_left} chunks to go"
    return f"working, {sum(states[state] for state in report.OPEN)} tasks open"


def shift() -> dict[str, Any]:
    """Say of the report on a schedule what became of its slots of a day."""
    timer = Timer.objects.filter(code_name=SHIFT).first()
    if timer is None:
        return {"url": "", "slots": {}, "last": ""}
    slots = Slot.objects.filter(entry_id=timer.pk, slot_at__gt=timezone.now() - timedelta(days=1))
    counted = dict(slots.order_by().values_list("decision").annotate(count=Count("pk")))
    return {
        "url": reverse("admin:tasks_app_schedule", args=[timer.pk]),
        "slots": {words: counted.get(decision, 0) for decision, words in DECISIONS.items()},
        "last": timer.last_at and f"{timer.last_at:%H:%M:%S} UTC",
    }


def _maps() -> Iterator[dict[str, Any]]:
    for drawn in CountryMap.objects.order_by("-drawn_at")[:LATEST_MAPS]:
        address = reverse("dispatch:map", args=[drawn.country])
        yield {
            "country": drawn.country,
            "airports": drawn.airports,
            "url": f"{address}?{drawn.drawn_at.timestamp():.0f}",
        }


def _mails() -> Iterator[dict[str, Any]]:
    for number, letter in reversed(list(enumerate(letters()))[-LATEST:]):
        yield {
            "to": letter["to"],
            "subject": letter["subject"],
            "url": reverse("dispatch:mail", args=[number]),
        }


def letters() -> list[dict[str, Any]]:
    """Return the letters in the demo's mailbox, oldest first, each Message-ID once."""
    return [entry for entry in Journal(settings.DATA_DIR / "mail.jsonl") if entry["filed"]]


def letter_text(letter: dict[str, Any]) -> str:
    """Return the readable part of a letter."""
    path: Path = settings.DATA_DIR / "mailbox" / letter["file"]
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    body = message.get_body(("plain",))
    return body.get_content() if body else ""


def _ledger() -> Iterator[dict[str, Any]]:
    for entry in LedgerEntry.objects.select_related("flight").order_by("-pk")[:LATEST]:
        yield {
            "flight": entry.flight.number,
            "route": f"{entry.flight.origin_id}–{entry.flight.destination_id}",
            "amount": f"{entry.amount:,.2f}",
            "charge": entry.charge,
        }


def _failures(job: Job) -> Iterator[dict[str, Any]]:
    for outcome in report.outcomes(job).filter(state="failed").order_by("-finished_at")[:LATEST]:
        yield {
            "task": outcome.task_name,
            "reason": outcome.reason,
            "error": outcome.error,
            "url": reverse("admin:tasks_app_outcome_change", args=[outcome.pk]),
        }
