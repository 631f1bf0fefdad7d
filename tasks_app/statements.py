"""
Conditional UPDATEs that tell what they hit.

PostgreSQL and SQLite return the written row from the UPDATE itself; MariaDB has no
`UPDATE … RETURNING`, so there the row is read in the same transaction, while it is locked.
"""

from typing import Any

from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.sql import UpdateQuery

from tasks_app.conf import conf
from tasks_app.models import Outcome


def update_one(rows: QuerySet[Outcome], **values: Any) -> bool:
    """Run one guarded UPDATE; return whether it hit its row."""
    return rows.update(**values) > 0


def update_returning(rows: QuerySet[Outcome], **values: Any) -> Outcome | None:
    """
    Run one guarded UPDATE of at most one row and return the row as written, or None.

    One statement in autocommit on PostgreSQL and SQLite; on MariaDB two, in one transaction.
    """
    connection = connections[conf.DATABASE]
    if connection.vendor == "mysql":
        return _update_then_read(rows, values)
    query: Any = rows.query.chain(UpdateQuery)
    query.add_update_values(values)
    sql, params = query.get_compiler(connection=connection).as_sql()
    fields = Outcome._meta.concrete_fields
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    extra = _no_wait_for_disk(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING {columns}{extra}", params)
        row = cursor.fetchone()
    return None if row is None else _outcome(connection, fields, row)


def _update_then_read(rows: QuerySet[Outcome], values: dict[str, Any]) -> Outcome | None:
    with transaction.atomic(using=conf.DATABASE):
        found = rows.select_for_update().values_list("pk", flat=True).first()
        if found is None:
            return None
        Outcome.objects.filter(pk=found).update(**values)
        return Outcome.objects.get(pk=found)


def _no_wait_for_disk(connection: Any) -> str:
    # A claim that a crash forgets is claimed again: its commit need not be on disk.
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        return ", set_config('synchronous_commit', 'off', true)"
    return ""


def _outcome(connection: Any, fields: Any, row: Any) -> Outcome:
    values = []
    for field, value in zip(fields, row, strict=False):
        for convert in (
            *connection.ops.get_db_converters(field.cached_col),
            *field.get_db_converters(connection),
        ):
            value = convert(value, field.cached_col, connection)  # noqa: PLW2901 - Django's chain of converters
        values.append(value)
    return Outcome.from_db(conf.DATABASE, [field.attname for field in fields], values)
