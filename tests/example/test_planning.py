"""Planning and alternates: the same choice every time, and rows that a second run replaces."""

from decimal import Decimal
from itertools import pairwise

import pytest

from example_project.dispatch.helpers import alternates, planning
from example_project.dispatch.models import Alternate, Flight, StationManager
from tests.example.factories import make_airport, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def airports():
    return [
        make_airport(
            f"A{n:03}", n - 30, n * 3 - 90, iata=f"A{n:02}", country="DE" if n % 2 else "FR"
        )
        for n in range(60)
    ]


def test_a_plan_names_all_the_work_that_follows(desk_settings, airports):
    """Every airport is in a block, every country has a map and a manager, every flight a fare."""
    plan = planning.plan_job(make_job().pk)
    assert (plan.blocks, plan.countries, len(plan.flights)) == ([0], ["DE", "FR"], 30)
    assert StationManager.objects.count() == 2
    assert set(plan.departures) == set(Flight.objects.values_list("origin_id", flat=True))
    assert all(flight.fuel_price > 0 for flight in Flight.objects.all())


def test_the_seed_alone_decides_the_flights(desk_settings, airports):
    """The same seed gives the same flights in another job; another seed gives others."""
    routes = []
    for seed in (1, 1, 2):
        job = make_job(seed=seed)
        planning.plan_job(job.pk)
        routes.append(list(job.flights.order_by("number").values_list("origin", "destination")))
    assert routes[0] == routes[1] != routes[2]


def test_fuel_is_priced_to_the_cent():
    """Money is decimal, never a float."""
    assert planning.fuel_price(1234.5678) == Decimal("4097.73")


def test_alternates_are_ranked_and_replaced(airports):
    """A second run of a block leaves the same rows."""
    for _ in range(2):
        assert alternates.find_alternates(0) == 60
    rows = list(Alternate.objects.values_list("airport", "rank", "distance_km"))
    assert len(rows) == 180
    for (_, rank, near), (_, next_rank, far) in pairwise(rows):
        assert rank == 3 or (next_rank == rank + 1 and near <= far)


@pytest.mark.parametrize(
    ("airports_count", "blocks"), [(0, 0), (1, 1), (500, 1), (501, 2), (28_298, 57)]
)
def test_blocks_cover_every_airport(airports_count, blocks):
    """No airport is left out at a border."""
    assert len(alternates.blocks(airports_count)) == blocks
