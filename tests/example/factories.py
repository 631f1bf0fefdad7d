"""Rows of the dispatch desk, with what a test does not care about filled in."""

from decimal import Decimal
from typing import Any

from example_project.dispatch.models import Airport, Flight, Job


def make_job(**fields: Any) -> Job:
    return Job.objects.create(**{"source": "test", "header": "", "chunks_left": 0} | fields)


def make_airport(icao: str, latitude: float, longitude: float, **fields: Any) -> Airport:
    return Airport.objects.create(
        icao=icao,
        latitude=latitude,
        longitude=longitude,
        **{"name": f"Airport {icao}", "country": "DE"} | fields,
    )


def make_flight(job: Job | None = None, number: str = "TA0001") -> Flight:
    job = job or make_job()
    make_airport("EDDF", 50.0264, 8.54313)
    make_airport("EGLL", 51.4706, -0.46194, country="GB")
    return Flight.objects.create(
        job=job,
        number=number,
        origin_id="EDDF",
        destination_id="EGLL",
        distance_km=655.0,
        fuel_price=Decimal("2173.29"),
    )
