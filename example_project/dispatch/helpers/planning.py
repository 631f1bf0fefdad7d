"""What follows once all airports are in: managers, flights, and the list of work still to do.

The flights are chosen by the job's seed alone, so the same file and seed give the same flights on
every database and with any number of workers.
"""

import random
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from example_project.dispatch.helpers import alternates
from example_project.dispatch.helpers.great_circle import Point, distance_km
from example_project.dispatch.models import Airport, Flight, Job, StationManager

#: Litres burnt on each kilometre, and euro paid for each litre.
BURN, PRICE = Decimal("4.2"), Decimal("0.79")


@dataclass(frozen=True)
class Plan:
    """The work after the import."""

    blocks: list[int]
    countries: list[str]
    departures: list[str]
    flights: list[int]


def plan_job(job_id: int) -> Plan:
    """Appoint the station managers, plan the flights and return the work that follows.

    Run it in one transaction, with enqueueing that work: then it happens exactly once.
    """
    job = Job.objects.get(pk=job_id)
    airports = {
        code: (iata, Point(code, latitude, longitude))
        for code, iata, latitude, longitude in Airport.objects.values_list(
            "icao", "iata", "latitude", "longitude"
        )
    }
    countries = sorted(set(Airport.objects.order_by().values_list("country", flat=True)))
    appoint_managers(countries)
    points = [point for iata, point in airports.values() if iata]
    flights = plan_flights(job, points, settings.DISPATCH["FLIGHTS"])
    Job.objects.filter(pk=job_id).update(planned_at=timezone.now())
    return Plan(
        blocks=list(alternates.blocks(len(airports))),
        countries=countries,
        departures=sorted({flight.origin_id for flight in flights}),
        flights=list(Flight.objects.filter(job=job).order_by("pk").values_list("pk", flat=True)),
    )


def appoint_managers(countries: list[str]) -> None:
    """Give each country a station manager, unless it has one."""
    StationManager.objects.bulk_create(
        [
            StationManager(country=country, email=f"station.{country.lower()}@dispatch.example")
            for country in countries
        ],
        ignore_conflicts=True,
    )


def plan_flights(job: Job, points: list[Point], most: int) -> list[Flight]:
    """Plan at most so many flights between the given airports, one for every two of them."""
    ordered = sorted(points)
    choice = random.Random(job.seed)
    flights = []
    for number in range(min(most, len(ordered) // 2)):
        origin, destination = choice.sample(ordered, 2)
        distance = distance_km(origin, destination)
        flights.append(
            Flight(
                job=job,
                number=f"TA{number + 1:04}",
                origin_id=origin.code,
                destination_id=destination.code,
                distance_km=distance,
                fuel_price=fuel_price(distance),
            )
        )
    Flight.objects.bulk_create(flights, batch_size=250)
    return flights


def fuel_price(distance: float) -> Decimal:
    """Return the euro that the fuel for so many kilometres costs.

    >>> fuel_price(1000.0)
    Decimal('3318.00')
    """
    return (Decimal(round(distance)) * BURN * PRICE).quantize(Decimal("0.01"))
