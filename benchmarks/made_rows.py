"""Rows that the database makes itself, by the million."""

from collections.abc import Mapping
from typing import Any

from django.db import connection, models


def insert(
    model: type[models.Model], expressions: Mapping[str, str], source: str, *given: Any
) -> None:
    """Make rows of a model from those of a statement; what is not told has its default."""
    columns: dict[str, str] = {}
    values: list[Any] = []
    for field in model._meta.concrete_fields:
        if field.column in expressions:
            columns[field.column] = expressions[field.column]
        elif field.has_default() and not field.has_db_default():
            columns[field.column] = "%s"
            values.append(field.get_db_prep_save(field.get_default(), connection))
    statement = (
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) "
        f"SELECT {', '.join(columns.values())} FROM ({source}) AS rows"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, *given])
