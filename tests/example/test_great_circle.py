"""The geometry of the globe: known distances, and neighbours that a slow search confirms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_project.dispatch.helpers.great_circle import (
    EARTH_RADIUS_KM,
    Globe,
    Point,
    distance_km,
)

FRANKFURT = Point("EDDF", 50.0264, 8.54313)
HEATHROW = Point("EGLL", 51.4706, -0.46194)
KENNEDY = Point("KJFK", 40.639928, -73.778692)
AUCKLAND = Point("NZAA", -37.0081, 174.79201)


@pytest.mark.parametrize(
    ("here", "there", "kilometres"),
    [
        (HEATHROW, KENNEDY, 5540),
        (FRANKFURT, HEATHROW, 655),
        (AUCKLAND, KENNEDY, 14_192),
        (Point("north", 90, 0), Point("south", -90, 0), math.pi * EARTH_RADIUS_KM),
        (Point("a", 0, 179.5), Point("b", 0, -179.5), math.pi * EARTH_RADIUS_KM / 180),
    ],
)
def test_known_distances_are_met_within_half_a_percent(here, there, kilometres):
    """The great circle is the way round the globe, over poles and the date line too."""
    assert distance_km(here, there) == pytest.approx(kilometres, rel=0.005)
    assert distance_km(there, here) == distance_km(here, there)


def test_a_neighbour_across_the_date_line_is_found():
    """Longitude jumps at 180°; distance does not."""
    globe = Globe([Point("west", 0, 179.9), Point("east", 0, -179.9), Point("far", 0, 170)])
    assert [n.code for n in globe.nearest("west", 1)] == ["east"]


def test_a_lonely_airport_has_only_the_neighbours_that_exist():
    """Asking for more than there are is no error."""
    assert Globe([FRANKFURT]).nearest("EDDF", 3) == []
    assert [n.code for n in Globe([FRANKFURT, HEATHROW]).nearest("EDDF", 3)] == ["EGLL"]


@given(
    st.lists(
        st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=40, unique=True
    )
)
def test_the_quick_search_finds_what_the_slow_one_finds(places):
    """Stopping early by latitude loses no neighbour."""
    points = [Point(f"{number:03}", *place) for number, place in enumerate(places)]
    globe = Globe(points)
    for here in points[:5]:
        slow = sorted(distance_km(here, there) for there in points if there is not here)[:3]
        quick = [neighbour.distance_km for neighbour in globe.nearest(here.code, 3)]
        assert quick == pytest.approx(slow, abs=1e-3)
