"""The audit of a job: every total beside what it must be, from two independent sources.

The desk's tables say what it believes it did; the input file and the services' journals say what
happened. External effects may have been asked for more than once, under equal keys; nothing may be
missing, doubled, or still open.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from example_project.dispatch.helpers import airports_csv, alternates, maps, report
from example_project.dispatch.models import (
    Airport,
    Alternate,
    Briefing,
    CountryMap,
    Delivery,
    Job,
    LedgerEntry,
)
from example_project.journal import Journal


class Line(NamedTuple):
    """One counted total, and what it must be; None means that any number will do."""

    label: str
    counted: int
    expected: int | None = None

    @property
    def is_right(self) -> bool:
        """Whether the total is what it must be."""
        return self.expected is None or self.counted == self.expected


def audit(job: Job, data: bytes, folder: Path) -> list[Line]:
    """Compare a job with its input and with the journals of one data folder."""
    return [
        *_states(job),
        *_tables(job, data),
        *_mails(job, folder),
        *_money(job, folder),
        *_webhooks(job, folder),
    ]


def _states(job: Job) -> Iterator[Line]:
    states = report.by_state(job)
    yield Line("outcomes succeeded", states.get("succeeded", 0), sum(states.values()))
    for state in ("pending", "running", "failed", "cancelled", "expired"):
        yield Line(f"outcomes {state}", states.get(state, 0), 0)


def _tables(job: Job, data: bytes) -> Iterator[Line]:
    airports, bad = airports_csv.count_airports(data)
    countries = Airport.objects.order_by().values("country").distinct().count()
    departures = job.flights.values("origin").distinct().count()
    ranks = min(alternates.RANKS, max(airports - 1, 0))
    yield Line("airports imported", Airport.objects.count(), airports)
    yield Line("bad lines reported", job.problems.count(), bad)
    yield Line("alternates", Alternate.objects.count(), airports * ranks)
    yield Line("maps", job.maps.count(), countries)
    yield Line("map files that open", sum(map(_opens, CountryMap.objects.all())), countries)
    yield Line("weather reports", job.weather.count(), departures)
    yield Line("reports", int(hasattr(job, "report")), 1)


def _opens(drawn: CountryMap) -> bool:
    try:
        with Image.open(maps.path_of(drawn.country)) as image:
            image.verify()
    except (OSError, SyntaxError):
        return False
    return True


def _mails(job: Job, folder: Path) -> Iterator[Line]:
    sent = set(Briefing.objects.filter(job=job).values_list("message_id", flat=True))
    arrived = [entry["message_id"] for entry in Journal(folder / "mail.jsonl")]
    arrived = [message_id for message_id in arrived if message_id in sent]
    yield Line("briefings", len(sent), job.maps.count())
    yield Line("mails in the mailbox", len(set(arrived)), len(sent))
    yield Line("  mails taken by SMTP", len(arrived))


def _money(job: Job, folder: Path) -> Iterator[Line]:
    booked = list(
        LedgerEntry.objects.filter(flight__job=job).values_list("idempotency_key", "charge")
    )
    calls = [(call["key"], call["id"]) for call in Journal(folder / "payments.jsonl")]
    charged = {call for call in calls if call[0].startswith("prepay:")}
    yield Line("flights", job.flights.count())
    yield Line("ledger entries", len(booked), job.flights.count())
    yield Line("ledger keys, each once", len(set(booked)), len(booked))
    yield Line("charges with equal keys", len(charged & set(booked)), len(booked))
    yield Line("  provider calls", len(calls))
    yield Line("calls too few", max(0, len(booked) - len(calls)), 0)


def _webhooks(job: Job, folder: Path) -> Iterator[Line]:
    events = list(Journal(folder / "webhooks.jsonl"))
    deliveries = Delivery.objects.filter(job=job)
    due = {(row.subscriber.name, row.event_id) for row in deliveries.select_related("subscriber")}
    heard = [(event["subscriber"], event["id"]) for event in events if "id" in event]
    heard = [event for event in heard if event in due]
    yield Line("webhooks", len(due), job.flights.count() + job.briefings.count())
    yield Line(
        "webhooks delivered", deliveries.filter(delivered_at__isnull=False).count(), len(due)
    )
    yield Line("webhooks heard", len(set(heard)), len(due))
    yield Line("  webhook calls", len(heard))
    yield Line("signatures refused", sum("refused" in event for event in events), 0)
