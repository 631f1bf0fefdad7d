"""Reading tables of airports: every good line once, every bad line with its number."""

import pytest

from example_project.dispatch.helpers import airports_csv
from example_project.dispatch.helpers.airports_csv import BadFile, count_airports, cut, read
from example_project.dispatch.models import Airport, ImportProblem

HEADER = b"icao,iata,name,city,country,elevation,lat,lon,tz\n"
GOOD = b"EDDF,FRA,Frankfurt,Frankfurt,DE,364,50.0264,8.54313,Europe/Berlin\n"


def read_all(data, size=500):
    header, pieces = cut(data, size)
    results = [read(header, piece) for piece in pieces]
    return [a for airports, _ in results for a in airports], [p for _, ps in results for p in ps]


def test_the_bundled_table_is_read_without_a_bad_line():
    """All 28,298 airports of the airportsdata distribution come in, whatever the chunk size."""
    assert count_airports(airports_csv.bundled()) == (28_298, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"EDDF,FRA,Frankfurt\n", "3 fields"),
        (b",FRA,Frankfurt,,DE,364,50,8,\n", "icao"),
        (b"EDDF,FRA,,,DE,364,50,8,\n", "name"),
        (b"EDDF,FRA,Frankfurt,,Germany,364,50,8,\n", "country"),
        (b"EDDF,FRA,Frankfurt,,DE,364,north,8,\n", "lat is 'north'"),
        (b"EDDF,FRA,Frankfurt,,DE,364,90.1,8,\n", "lat is 90.1"),
        (b"EDDF,FRA,Frankfurt,,DE,364,50,nan,\n", "lon is nan"),
        (b"EDDF,FRA,Frankfurt,,DE,high,50,8,\n", "elevation"),
        (b"EDDF,FRA," + b"x" * 201 + b",,DE,364,50,8,\n", "name has 201"),
        (b'EDDF,FRA,"Frankfurt,,DE,364,50,8,\n', "unexpected end of data"),
        (b"EDDF,FRA,Fr\xffnkfurt,,DE,364,50,8,\n", "not UTF-8"),
        (b"EDDF,FRA,Fr\0nkfurt,,DE,364,50,8,\n", "not UTF-8"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_stops_no_other(line, reason):
    """The lines before and after a bad one are read."""
    other = GOOD.replace(b"EDDF", b"EDDM")
    airports, problems = read_all(HEADER + GOOD + line + other)
    assert [airport.icao for airport in airports] == ["EDDF", "EDDM"]
    assert [(problem.line, reason in problem.reason) for problem in problems] == [(3, True)]


@pytest.mark.parametrize("size", [1, 2, 3, 500])
def test_line_numbers_do_not_depend_on_the_chunks(size):
    """However the file is cut, a bad line keeps its number; empty lines count but are not bad."""
    _, problems = read_all(HEADER + b"bad\n\n" + GOOD + b"worse\n", size)
    assert [problem.line for problem in problems] == [2, 5]


def test_another_table_of_the_same_shape_is_read():
    """Semicolons, other order, other case, a byte order mark, fewer and further columns."""
    text = "\ufeffNote;LON;LAT;Country;Name;ICAO\r\nx;8.5;50;de;Frankfurt;eddf\r\n"
    airports, problems = read_all(text.encode())
    assert problems == []
    assert [(a.icao, a.country, a.latitude, a.elevation_ft) for a in airports] == [
        ("EDDF", "DE", 50.0, None)
    ]


@pytest.mark.parametrize(
    "data", [b"", b"hello\nworld\n", b"icao,name\nEDDF,Frankfurt\n", b"\xff\0"]
)
def test_a_file_without_the_columns_is_refused_with_their_names(data):
    """Only a file that is no table of airports is refused as a whole."""
    with pytest.raises(BadFile, match=r"missing: .*lat"):
        cut(data)


@pytest.mark.django_db
def test_a_chunk_is_imported_and_counted_off_once():
    """The last chunk says so, exactly once, and a repeated call changes nothing."""
    data = HEADER + GOOD + b"bad\n" + GOOD.replace(b"EDDF", b"EDDM")
    job = airports_csv.create_job(data, "test", 0)
    (chunk,) = job.chunks.all()
    first, second = (airports_csv.import_chunk(chunk.pk) for _ in range(2))
    job.refresh_from_db()
    assert (first.is_last, second.is_last, job.chunks_left) == (True, False, 0)
    assert set(Airport.objects.values_list("icao", flat=True)) == {"EDDF", "EDDM"}
    assert [(p.line, p.text) for p in ImportProblem.objects.all()] == [(3, "bad")]


@pytest.mark.django_db
def test_only_the_last_of_many_chunks_starts_what_follows(monkeypatch):
    """Of all chunks of a job exactly one sees that none is left."""
    lines = [GOOD.replace(b"EDDF", b"E%03d" % number) for number in range(1200)]
    job = airports_csv.create_job(HEADER + b"".join(lines), "test", 0)
    done = [airports_csv.import_chunk(chunk.pk) for chunk in job.chunks.order_by("pk")]
    assert [imported.is_last for imported in done] == [False, False, True]
    assert Airport.objects.count() == 1200


@pytest.mark.django_db
def test_importing_again_updates_the_airports():
    """An upsert adds no second row for a code, and the new values win."""
    for name in (b"Frankfurt", b"Rhein-Main"):
        airports, _ = read_all(HEADER + GOOD.replace(b"Frankfurt", name))
        airports_csv.upsert(airports)
    assert [airport.name for airport in Airport.objects.all()] == ["Rhein-Main"]
