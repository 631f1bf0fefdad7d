"""Nearest alternates: for every airport the three others closest to it.

The work is cut into blocks of airports in the order of their codes as Python sorts them, not as
some database's collation does. Calculating holds no transaction; writing replaces the block's rows
in one, so that a repeated block ends with the same rows.
"""

from django.db import transaction

from example_project.dispatch.helpers.great_circle import Globe, Point
from example_project.dispatch.models import Airport, Alternate
from tasks_app import current

#: Airports in one block: about a fifth of a second of calculation.
BLOCK = 500
#: Alternates of each airport.
RANKS = 3
#: Airports between two notes of progress.
STEP = 100


def blocks(airports: int) -> range:
    """Return the numbers of the blocks that so many airports fill."""
    return range(-(-airports // BLOCK))


def find_alternates(block: int) -> int:
    """Write the alternates of one block's airports; return how many airports these were.

    Repeatable: an exactly-once effect whether or not it runs within an outer transaction.
    """
    points = [Point(*row) for row in Airport.objects.values_list("icao", "latitude", "longitude")]
    globe = Globe(points)
    codes = sorted(point.code for point in points)[block * BLOCK : (block + 1) * BLOCK]
    found: list[Alternate] = []
    for done, code in enumerate(codes):
        if done % STEP == 0:
            current.raise_if_cancelled()
            current.progress(done, len(codes), "airports")
        found += [
            Alternate(airport_id=code, rank=rank, other_id=other, distance_km=distance)
            for rank, (other, distance) in enumerate(globe.nearest(code, RANKS), start=1)
        ]
    with transaction.atomic():
        Alternate.objects.filter(airport__in=codes).delete()
        Alternate.objects.bulk_create(found, batch_size=BLOCK)
    return len(codes)
