"""A PNG map for each country, replaced atomically.

The picture is written beside its place and moved there in one step: whoever opens the file, at any
moment, gets a whole picture, the old or the new one. Drawing is repeatable, so at-least-once runs
leave the same file.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.utils import timezone
from PIL import Image, ImageDraw, ImageFont

from example_project.dispatch.models import Airport, CountryMap

#: Pixels of a map, and of the frame around its dots; the title stands in the frame.
WIDTH, HEIGHT, FRAME = 480, 360, 44

#: Radius of a dot, pixels, by the number of airports up to which it is used.
DOTS = {150: 3, 1000: 2}
#: Least distance of two grid lines, pixels.
MESH = 60

_SEA, _GRID, _DOT, _TEXT = "#10243e", "#24456e", "#ffc857", "#e8eef6"

Place = tuple[float, float]


class View(NamedTuple):
    """The part of the globe that a map shows: its centre, and pixels per degree both ways."""

    latitude: float
    longitude: float
    across: float
    up: float

    def pixel(self, place: Place) -> tuple[float, float]:
        """Return where a latitude and longitude lie on the picture."""
        latitude, longitude = place
        x = WIDTH / 2 + (longitude - self.longitude) * self.across
        return x, HEIGHT / 2 - (latitude - self.latitude) * self.up


def path_of(country: str) -> Path:
    """Return where the map of a country lies."""
    return Path(settings.DISPATCH["MAPS_DIR"]) / f"{country}.png"


def draw_map(job_id: int, country: str) -> int:
    """Draw the map of one country and note it; return how many airports it shows."""
    places = list(Airport.objects.filter(country=country).values_list("latitude", "longitude"))
    save(picture(country, places), path_of(country))
    CountryMap.objects.update_or_create(
        country=country,
        defaults={"job_id": job_id, "airports": len(places), "drawn_at": timezone.now()},
    )
    return len(places)


def save(image: Image.Image, path: Path) -> None:
    """Put a picture at its path in one step, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            image.save(file, "PNG", optimize=True)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise


def picture(title: str, places: Sequence[Place]) -> Image.Image:
    """Draw places, given as latitude and longitude, on a map that just holds them."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _SEA)
    pen = ImageDraw.Draw(image)
    places = unwrapped(places)
    view = fit(places)
    for line in _grid(view):
        pen.line(line, fill=_GRID)
    radius = next((radius for most, radius in DOTS.items() if len(places) <= most), 1)
    for x, y in map(view.pixel, places):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_DOT)
    label = f"{title} · {len(places):,} airport{'' if len(places) == 1 else 's'}"
    pen.text((12, 6), label, fill=_TEXT, font=ImageFont.load_default(size=26))
    return image.quantize(32)


def unwrapped(places: Sequence[Place]) -> list[Place]:
    """Move the west beyond 180° east when that brings a country across the date line together."""
    east = [(latitude, longitude % 360) for latitude, longitude in places]
    return min(list(places), east, key=lambda some: _span([longitude for _, longitude in some]))


def fit(places: Sequence[Place]) -> View:
    """Return the view that holds all places, with true proportions at its centre."""
    latitudes = [latitude for latitude, _ in places] or [0.0]
    longitudes = [longitude for _, longitude in places] or [0.0]
    middle = (min(latitudes) + max(latitudes)) / 2
    narrowing = max(math.cos(math.radians(middle)), 0.05)
    # A single airport still gets two degrees around it.
    up = min(
        (HEIGHT - 2 * FRAME) / max(_span(latitudes), 2.0),
        (WIDTH - 2 * FRAME) / max(_span(longitudes) * narrowing, 2.0),
    )
    return View(middle, (min(longitudes) + max(longitudes)) / 2, up * narrowing, up)


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _grid(view: View) -> Iterator[tuple[float, float, float, float]]:
    """Yield the lines of a round number of degrees, some sixty pixels or more apart."""
    step = next((step for step in (0.5, 1, 2, 5, 10, 20) if step * view.up >= MESH), 30)
    half_height, half_width = HEIGHT / 2 / view.up, WIDTH / 2 / view.across
    for degrees in _multiples(step, view.latitude - half_height, view.latitude + half_height):
        _, y = view.pixel((degrees, 0.0))
        yield 0, y, WIDTH, y
    for degrees in _multiples(step, view.longitude - half_width, view.longitude + half_width):
        x, _ = view.pixel((0.0, degrees))
        yield x, 0, x, HEIGHT


def _multiples(step: float, low: float, high: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
