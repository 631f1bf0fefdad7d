"""Airports from a CSV file: cut it into chunks, read each chunk's lines, upsert the airports.

One line is one airport. A line that cannot be read becomes an ``ImportProblem`` with its number
and never stops the others; only a file without the needed columns is refused as a whole. A code
that stands in the file twice updates the same airport; which line wins is not promised.
"""

import csv
import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from django.db import connection
from django.db.models import F

from example_project.dispatch.models import Airport, Chunk, ImportProblem, Job

#: Columns without which a line is no airport; any others may be missing, in any order.
REQUIRED = ("icao", "name", "country", "lat", "lon")
#: Rows of one INSERT: below SQLite's limit of bound variables and MariaDB's packet size.
BATCH = 250

_UPDATED = [field.name for field in Airport._meta.concrete_fields if not field.primary_key]


class BadFile(ValueError):
    """The file as a whole is not a table of airports."""


class Problem(NamedTuple):
    """A line that could not be read."""

    line: int
    reason: str
    text: str


class Piece(NamedTuple):
    """Some whole lines of the file and the number of the first, counted from 1."""

    first_line: int
    text: str


class Imported(NamedTuple):
    """What one chunk held, and whether it was the last of its job."""

    job_id: int
    airports: int
    problems: int
    is_last: bool


def bundled() -> bytes:
    """Return the table of 28,298 airports that the ``airportsdata`` distribution carries."""
    return resources.files("airportsdata").joinpath("airports.csv").read_bytes()


def cut(data: bytes, size: int = 500) -> tuple[str, list[Piece]]:
    """Cut a file into its header line and pieces of at most ``size`` lines.

    Bytes that are not UTF-8, and NUL, which PostgreSQL cannot store, become U+FFFD; the line that
    holds them is reported when it is read.

    Raises:
        BadFile: The header lacks one of the needed columns.
    """
    text = data.decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")
    lines = re.split(r"\r\n|\r|\n", text)
    layout(lines[0])
    bodies = ("\n".join(lines[start : start + size]) for start in range(1, len(lines), size))
    pieces = [Piece(2 + number * size, body) for number, body in enumerate(bodies)]
    return lines[0], [piece for piece in pieces if piece.text.strip()]


def layout(header: str) -> tuple[str, list[str]]:
    """Return the delimiter and the column names of a header line.

    Raises:
        BadFile: A needed column is missing.
    """
    missing: set[str] = set(REQUIRED)
    for delimiter in ",;\t|":
        columns = [
            name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])
        ]
        missing = min(missing, set(REQUIRED) - set(columns), key=len)
        if not missing:
            return delimiter, columns
    raise BadFile(
        f"The first line must name the columns {', '.join(REQUIRED)}; "
        f"missing: {', '.join(sorted(missing))}. It reads: {header[:120]!r}"
    )


def read(header: str, piece: Piece) -> tuple[list[Airport], list[Problem]]:
    """Read the lines of a piece into unsaved airports and problems; empty lines are neither."""
    delimiter, columns = layout(header)
    airports: dict[str, Airport] = {}
    problems: list[Problem] = []
    for number, line in enumerate(piece.text.split("\n"), start=piece.first_line):
        if not line.strip():
            continue
        try:
            airport = _airport(_fields(line, delimiter, columns))
        except (ValueError, csv.Error) as error:
            problems.append(Problem(number, str(error)[:200], line[:200]))
        else:
            airports[airport.icao] = airport
    return list(airports.values()), problems


def _fields(line: str, delimiter: str, columns: Sequence[str]) -> dict[str, str]:
    if "\ufffd" in line:
        raise ValueError("not UTF-8 text")
    (values,) = csv.reader([line], delimiter=delimiter, strict=True)
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} fields instead of {len(columns)}")
    return {column: value.strip() for column, value in zip(columns, values, strict=True)}


def _airport(fields: dict[str, str]) -> Airport:
    return Airport(
        icao=_matching(r"[A-Z0-9_-]{2,8}", fields["icao"].upper(), "icao"),
        iata=_matching(r"([A-Z0-9]{3})?", fields.get("iata", "").upper(), "iata"),
        name=_short(fields["name"], "name", 1, 200),
        city=_short(fields.get("city", ""), "city", 0, 100),
        country=_matching(r"[A-Z]{2}", fields["country"].upper(), "country"),
        elevation_ft=_number(fields["elevation"], "elevation", 40_000)
        if fields.get("elevation")
        else None,
        latitude=_number(fields["lat"], "lat", 90),
        longitude=_number(fields["lon"], "lon", 180),
        timezone=_short(fields.get("tz", ""), "tz", 0, 64),
    )


def _matching(pattern: str, value: str, column: str) -> str:
    if not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(f"{column} is {value[:40]!r}")
    return value


def _short(value: str, column: str, least: int, most: int) -> str:
    if not least <= len(value) <= most:
        raise ValueError(f"{column} has {len(value)} characters, not {least} to {most}")
    return value


def _number(value: str, column: str, limit: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{column} is {value[:40]!r}, not a number") from None
    if not abs(number) <= limit:  # written so that NaN fails too
        raise ValueError(f"{column} is {value[:40]}, not within ±{limit}")
    return number


def upsert(airports: Sequence[Airport]) -> None:
    """Insert the airports, or update those that exist.

    They are written in the order of their codes, so that two chunks that share some cannot wait
    for each other's rows in a circle.
    """
    # MariaDB finds the conflicting key by itself and refuses to be told.
    target = ["icao"] if connection.features.supports_update_conflicts_with_target else None
    Airport.objects.bulk_create(
        sorted(airports, key=lambda airport: airport.icao),
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=target,
        update_fields=_UPDATED,
    )


def create_job(data: bytes, source: str, seed: int) -> Job:
    """Store the input as a job with its chunks; nothing is imported yet.

    The lines travel in the database, so a worker on another machine finds them and the arguments
    of a call stay a number.

    Raises:
        BadFile: The file is not a table of airports, or has no line below its header.
    """
    header, pieces = cut(data)
    if not pieces:
        raise BadFile("There is no line below the header.")
    job = Job.objects.create(source=source[:200], header=header, seed=seed, chunks_left=len(pieces))
    for piece in pieces:
        Chunk.objects.create(job=job, first_line=piece.first_line, text=piece.text)
    return job


def import_chunk(chunk_id: int) -> Imported:
    """Import one chunk and count it off.

    Run it in one transaction: then airports, problems and the countdown are exactly-once effects.
    The countdown comes last and locks the job's row until the commit, so that of two chunks that
    finish together exactly one sees zero. A chunk that was counted off before is left alone.
    """
    chunk = Chunk.objects.select_related("job").get(pk=chunk_id)
    if chunk.airports is not None:
        return Imported(chunk.job_id, 0, 0, is_last=False)
    airports, problems = read(chunk.job.header, Piece(chunk.first_line, chunk.text))
    upsert(airports)
    ImportProblem.objects.bulk_create(
        ImportProblem(job=chunk.job, line=line, reason=reason, text=text)
        for line, reason, text in problems
    )
    Chunk.objects.filter(pk=chunk_id).update(airports=len(airports), problems=len(problems))
    Job.objects.filter(pk=chunk.job_id).update(chunks_left=F("chunks_left") - 1)
    is_last = Job.objects.filter(pk=chunk.job_id, chunks_left=0).exists()
    return Imported(chunk.job_id, len(airports), len(problems), is_last)


def count_airports(data: bytes) -> tuple[int, int]:
    """Count, without a database, the airports and the bad lines that an import of a file yields."""
    header, pieces = cut(data)
    codes: set[str] = set()
    bad = 0
    for piece in pieces:
        airports, problems = read(header, piece)
        codes.update(airport.icao for airport in airports)
        bad += len(problems)
    return len(codes), bad
