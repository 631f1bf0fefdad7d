"""The report over a job: what it did, counted from the tables, and when it is complete.

A job is over when none of its other outcomes is pending or running. That test has no gap, because
a helper enqueues what follows it before its own outcome ends; so between the first call and the
last there is always one row that is still open.
"""

from typing import Any
from uuid import UUID

from django.db.models import Count, Sum
from django.utils import timezone

from example_project.dispatch.models import (
    Airport,
    Alternate,
    Delivery,
    ImportProblem,
    Job,
    LedgerEntry,
    Report,
)
from tasks_app import Snooze, current
from tasks_app.models import Outcome

OPEN = ("pending", "running")
#: Outcomes that one run of ``stop_job`` cancels.
BATCH = 500


def build_report(job_id: int) -> dict[str, Any]:
    """Write the report of a job, once everything else in it has ended.

    Until then it tells how far the job is: that is the bar on the desk's page.

    Raises:
        Snooze: Something is still open; come back, at no cost of an attempt.
    """
    job = Job.objects.get(pk=job_id)
    states = by_state(job, but=current.outcome_id)
    others = sum(states.values())
    still_open = sum(states.get(state, 0) for state in OPEN)
    if still_open:
        is_planned = job.planned_at is not None
        known = others if is_planned else None
        current.progress(others - still_open, known, "" if is_planned else "importing airports")
        raise Snooze(after=1)
    counted = totals(job)
    Report.objects.update_or_create(job=job, defaults={"totals": counted})
    Job.objects.filter(pk=job_id).update(finished_at=timezone.now())
    return counted


def report_shift() -> dict[str, Any]:
    """Report what the latest job has done up to now, for the slot that it serves; on a schedule."""
    job = Job.objects.order_by("-pk").first()
    slot_at = current.scheduled_for
    return {
        "slot": slot_at and slot_at.isoformat(),
        "job": job and job.pk,
        "totals": totals(job) if job else {},
    }


def stop_job(job_id: int) -> None:
    """Cancel everything that is still open in a job.

    Raises:
        Snooze: There is more than one batch, or something runs to its end.
    """
    job = Job.objects.get(pk=job_id)
    still_open = outcomes(job).filter(state__in=OPEN)
    for outcome in still_open.order_by("state", "pk")[:BATCH]:
        outcome.cancel(reason="the job was stopped")
    if still_open.exists():
        raise Snooze(after=1)
    Job.objects.filter(pk=job_id).update(finished_at=timezone.now())


def outcomes(job: Job) -> Any:
    """
    Return every outcome that a job caused, directly or through others.

    The index is on the request id; the root tells apart two jobs of a client that sent one
    ``X-Request-ID`` twice.
    """
    return Outcome.objects.filter(request_id=job.request_id, root_id=job.root_id)


def by_state(job: Job, but: UUID | None = None) -> dict[str, int]:
    """Count a job's outcomes by state, leaving one of them out."""
    rows = outcomes(job).exclude(pk=but).order_by().values_list("state").annotate(count=Count("pk"))
    return dict(rows)


def totals(job: Job) -> dict[str, Any]:
    """Count what a job has done up to now."""
    ledger = LedgerEntry.objects.filter(flight__job=job)
    deliveries = Delivery.objects.filter(job=job)
    return {
        "airports": Airport.objects.count(),
        "bad lines": ImportProblem.objects.filter(job=job).count(),
        "alternates": Alternate.objects.count(),
        "maps": job.maps.count(),
        "weather reports": job.weather.count(),
        "briefings": job.briefings.count(),
        "flights": job.flights.count(),
        "ledger entries": ledger.count(),
        "euro paid": f"{ledger.aggregate(sum=Sum('amount'))['sum'] or 0:,.2f}",
        "webhooks": deliveries.count(),
        "webhooks delivered": deliveries.filter(delivered_at__isnull=False).count(),
    }
