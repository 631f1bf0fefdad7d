"""The desk's tasks: which helper runs under which options, and what follows what.

A task that only runs a helper wraps it; one that also starts the next step is a few lines of its
own. The order of a job::

    open_job ─▶ import_chunk × n ─last one in─▶ plan_job
    plan_job ─┬▶ find_alternates × blocks
              ├▶ draw_map ─▶ send_briefing ─▶ deliver, for each country
              ├▶ fetch_weather × departures
              └▶ prepay_fuel ─▶ deliver, for each flight
    build_report, which waits for all of them and tells meanwhile how far they are
    stop_job, once somebody has cancelled the report

Beside all jobs, ``report_shift`` runs on a schedule of its own.

Atomic tasks (the default) enqueue what follows in the transaction of their own effects, so that
needs no key. Those that talk to the network first are not atomic; they may run twice, and the
idempotency key of what they enqueue makes the second time find the first one's outcome.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.dispatch import receiver

from example_project.dispatch.helpers import (
    airports_csv,
    alternates,
    briefings,
    maps,
    planning,
    prepayment,
    report,
    weather,
    webhooks,
)
from example_project.dispatch.models import Chunk, Job
from tasks_app import RetryPolicy, every, signals, task
from tasks_app.models import Outcome
from tasks_app.periodic import Missed

#: For services that fail now and then: a dozen attempts, soon at first.
PATIENT = RetryPolicy(max_attempts=12, initial=0.5, maximum=15)
#: For work within this machine: enough to outlive some killed workers.
STURDY = RetryPolicy(max_attempts=8)

find_alternates = task(
    alternates.find_alternates,
    name="dispatch.find_alternates",
    retry=STURDY,
    timeout=120,
    atomic=False,
)

fetch_weather = task(
    weather.fetch_weather,
    name="dispatch.fetch_weather",
    retry=PATIENT,
    timeout=30,
    atomic=False,
)

deliver = task(
    webhooks.deliver,
    name="dispatch.deliver_webhook",
    idempotency_key="webhook:{delivery_id}",
    retry=PATIENT,
    timeout=30,
    atomic=False,
)

build_report = task(
    report.build_report,
    name="dispatch.build_report",
    idempotency_key="report:{job_id}",
    about="dispatch.job:{job_id}",
    retry=STURDY,
    priority=9,
)

stop_job = task(
    report.stop_job,
    name="dispatch.stop_job",
    idempotency_key="stop:{job_id}",
    retry=STURDY,
    priority=9,
    atomic=False,
)

#: The desk's report on a schedule: of what passed while no beat ran, the newest five are made up.
#: A project that borrows these tasks without the desk's settings gets it switched off.
report_shift = every(
    seconds=30,
    name="shift report",
    missed=Missed.all(max=5),
    overlap="skip",
    enabled=hasattr(settings, "DISPATCH"),
)(task(report.report_shift, name="dispatch.report_shift", retry=STURDY, timeout=60))


@task(name="dispatch.open_job", about="dispatch.job:{job_id}", retry=STURDY)
def open_job(job_id: int) -> int:
    """Start the import of every chunk: the root of all other outcomes of a job."""
    chunks = Chunk.objects.filter(job=job_id).order_by("first_line").values_list("pk", flat=True)
    return len(import_chunk.enqueue_many([(chunk,) for chunk in chunks]))


@task(name="dispatch.import_chunk", retry=STURDY, timeout=60)
def import_chunk(chunk_id: int) -> dict[str, int]:
    """Import some lines of the input; the last chunk in starts the planning, exactly once."""
    imported = airports_csv.import_chunk(chunk_id)
    if imported.is_last:
        plan_job.enqueue(imported.job_id)
    return {"airports": imported.airports, "problems": imported.problems}


@task(
    name="dispatch.plan_job",
    idempotency_key="plan:{job_id}",
    about="dispatch.job:{job_id}",
    retry=STURDY,
    timeout=60,
)
def plan_job(job_id: int) -> dict[str, int]:
    """Lay out everything that follows the import, all of it or nothing."""
    plan = planning.plan_job(job_id)
    find_alternates.enqueue_many([(block,) for block in plan.blocks])
    draw_map.enqueue_many([(job_id, country) for country in plan.countries])
    fetch_weather.enqueue_many([(job_id, icao) for icao in plan.departures])
    prepay_fuel.enqueue_many([(flight_id,) for flight_id in plan.flights])
    return {"countries": len(plan.countries), "flights": len(plan.flights)}


@task(name="dispatch.draw_map", retry=STURDY, timeout=60, priority=6, atomic=False)
def draw_map(job_id: int, country: str) -> int:
    """Draw the map of a country, then send the briefing that carries it."""
    airports = maps.draw_map(job_id, country)
    send_briefing.enqueue(job_id, country)
    return airports


@task(
    name="dispatch.send_briefing",
    idempotency_key="briefing:{job_id}:{country}",
    retry=PATIENT,
    timeout=30,
    priority=6,
    atomic=False,
)
def send_briefing(job_id: int, country: str) -> str:
    """Mail the briefing of a country (at least once, under one Message-ID), then say so."""
    briefing = briefings.send_briefing(job_id, country)
    _tell(job_id, "briefing.sent", f"briefing:{job_id}:{country}", {"country": country})
    return briefing.message_id


@task(
    name="dispatch.prepay_fuel",
    idempotency_key="prepay:{flight_id}",
    about="dispatch.flight:{flight_id}",
    retry=PATIENT,
    timeout=30,
    priority=7,
)
def prepay_fuel(flight_id: int) -> str:
    """Pay the fuel of a flight: charge, ledger row and the webhook's enqueue are one commit."""
    entry = prepayment.prepay_fuel(flight_id)
    facts = {"flight": entry.flight.number, "amount": str(entry.amount)}
    _tell(entry.flight.job_id, "flight.prepaid", entry.idempotency_key, facts)
    return entry.charge


@receiver(signals.cancelled, dispatch_uid="dispatch.stop_job")
def stop_with_report(outcome: Outcome, **kwargs: Any) -> None:
    """Stop a job whose report somebody cancelled: that is the button on the desk's page."""
    job = Job.objects.filter(report_id=outcome.pk).first()
    if job is not None:
        stop_job.enqueue(job.pk)


def _tell(job_id: int, kind: str, event_id: str, facts: Mapping[str, Any]) -> None:
    with transaction.atomic():
        deliveries = webhooks.announce(job_id, kind, event_id, facts)
        deliver.enqueue_many([(delivery_id,) for delivery_id in deliveries])
