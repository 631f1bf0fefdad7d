"""Distances on the globe, and the nearest points to a point.

Points become vectors on the unit sphere, so neither the poles nor the date line is a special case:
the straight line between two vectors grows with the great circle between the points. Ordered by
latitude, a search walks away from its point and stops as soon as the latitude alone is further
than the worst neighbour found. Pure functions of their arguments.
"""

import heapq
import math
from collections.abc import Iterable
from typing import NamedTuple

#: Mean radius of the Earth, kilometres (IUGG).
EARTH_RADIUS_KM = 6371.0088


class Point(NamedTuple):
    """A named place; degrees, north and east positive."""

    code: str
    latitude: float
    longitude: float


class Neighbour(NamedTuple):
    """A place near another one."""

    code: str
    distance_km: float


def _vector(point: Point) -> tuple[float, float, float]:
    latitude, longitude = math.radians(point.latitude), math.radians(point.longitude)
    ring = math.cos(latitude)
    return ring * math.cos(longitude), ring * math.sin(longitude), math.sin(latitude)


def _angle(chord_squared: float) -> float:
    return 2.0 * math.asin(min(1.0, math.sqrt(chord_squared) / 2.0))


def distance_km(here: Point, there: Point) -> float:
    """Return the length of the great circle between two points.

    >>> round(distance_km(Point("KJFK", 40.6399, -73.7787), Point("EGLL", 51.4706, -0.4619)))
    5540
    """
    return EARTH_RADIUS_KM * _angle(math.dist(_vector(here), _vector(there)) ** 2)


class Globe:
    """All points of one search, ordered once and asked many times."""

    def __init__(self, points: Iterable[Point]) -> None:
        ordered = sorted(points, key=lambda point: (point.latitude, point.code))
        self._codes = [point.code for point in ordered]
        self._latitudes = [math.radians(point.latitude) for point in ordered]
        self._vectors = [_vector(point) for point in ordered]
        self._places = {code: place for place, code in enumerate(self._codes)}

    def nearest(self, code: str, count: int) -> list[Neighbour]:
        """Return the ``count`` points nearest to one of the points, nearest first, without itself.

        Raises:
            KeyError: No point has this code.
        """
        place = self._places[code]
        latitude, (x, y, z) = self._latitudes[place], self._vectors[place]
        latitudes, vectors = self._latitudes, self._vectors
        found: list[tuple[float, int]] = []  # a heap of (-chord², place): the worst comes first
        worst, reach = math.inf, math.inf
        for walk in (range(place + 1, len(vectors)), range(place - 1, -1, -1)):
            for other in walk:
                if abs(latitudes[other] - latitude) > reach:
                    break
                a, b, c = vectors[other]
                chord = (a - x) ** 2 + (b - y) ** 2 + (c - z) ** 2
                if chord >= worst:
                    continue
                if len(found) < count:
                    heapq.heappush(found, (-chord, other))
                else:
                    heapq.heapreplace(found, (-chord, other))
                if len(found) == count:
                    worst = -found[0][0]
                    reach = _angle(worst)
        neighbours = [
            Neighbour(self._codes[other], EARTH_RADIUS_KM * _angle(-chord))
            for chord, other in found
        ]
        return sorted(neighbours, key=lambda neighbour: (neighbour.distance_km, neighbour.code))
