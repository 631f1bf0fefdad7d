"""Maps: whole pictures in one step, and countries on both sides of the date line."""

import pytest
from PIL import Image

from example_project.dispatch.helpers import maps
from example_project.dispatch.models import CountryMap
from tests.example.factories import make_airport, make_job


class Torn(Image.Image):
    """A picture whose writing breaks off half-way."""

    def save(self, file, *args, **kwargs):
        file.write(b"half of a picture")
        raise OSError("disk full")


def test_a_map_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """Whoever opens the file gets a whole picture, also when a write broke off."""
    path = tmp_path / "DE.png"
    maps.save(maps.picture("DE", [(50.0, 8.0)]), path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="disk full"):
        maps.save(Torn(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["DE.png"]


@pytest.mark.parametrize(
    "places",
    [
        [],
        [(50.0, 8.0)],
        [(90.0, 0.0), (-90.0, 180.0)],
        [(-17.75, 177.44), (-16.69, -179.88)],
        [(number / 100, number / 50) for number in range(1000)],
    ],
)
def test_any_set_of_places_gives_a_picture(places):
    """No airport, one, both poles, a date line, a thousand: all are drawn."""
    assert maps.picture("XX", places).size == (maps.WIDTH, maps.HEIGHT)


def test_a_country_across_the_date_line_stays_together():
    """Fiji is two degrees wide, not 358."""
    moved = maps.unwrapped([(-17.75, 177.44), (-16.69, -179.88)])
    assert moved == [(-17.75, 177.44), (-16.69, pytest.approx(180.12))]


@pytest.mark.parametrize("place", [(47.3, 5.9), (55.0, 15.0), (50.0, 8.0)])
def test_every_place_lies_within_the_frame(place):
    """What is drawn can be seen."""
    view = maps.fit([(47.3, 5.9), (55.0, 15.0), (50.0, 8.0)])
    x, y = view.pixel(place)
    assert maps.FRAME - 1 <= x <= maps.WIDTH - maps.FRAME + 1
    assert maps.FRAME - 1 <= y <= maps.HEIGHT - maps.FRAME + 1


@pytest.mark.django_db
def test_drawing_again_replaces_the_map(desk_settings):
    """Two runs leave one row and one file."""
    job = make_job()
    make_airport("EDDF", 50.0, 8.5)
    assert [maps.draw_map(job.pk, "DE"), maps.draw_map(job.pk, "DE")] == [1, 1]
    assert [drawn.airports for drawn in CountryMap.objects.all()] == [1]
    with Image.open(maps.path_of("DE")) as image:
        image.verify()
