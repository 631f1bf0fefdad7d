"""
How outcomes come into their table: one by one, and many that differ in a few columns.

Each is one statement in the caller's transaction, its own where there is none, and leaves out what
Django's ORM does for any model: building the statement costs more than running it. `enqueue.py`
alone decides what is inserted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import NOT_PROVIDED, Expression, Field
from django.db.models.expressions import DatabaseDefault
from django.db.models.signals import post_save, pre_save

from tasks_app.conf import conf
from tasks_app.models import Outcome
from tasks_app.statements import BATCH, Slot, Sql, converted, converters, insertion

#: Rows that are written to a COPY at a time: some 100 KiB, while PostgreSQL reads those before.
PART = 500

#: Types whose text PostgreSQL reads back as what they are.
COPIED = (str, int, UUID, datetime)


def insert(row: Outcome) -> None:
    """
    Insert one outcome, and give it what the database computed; receivers of `save` are told.

    Raises:
        IntegrityError: there is an outcome of that id.
    """
    connection: Any = connections[conf.DATABASE]
    if not connection.features.can_return_columns_from_insert:
        row.save(force_insert=True, using=conf.DATABASE)
        return
    told = {"instance": row, "raw": False, "using": conf.DATABASE, "update_fields": None}
    pre_save.send(Outcome, **told)
    statement = _statement(row, connection)
    with connection.cursor() as cursor:
        cursor.execute(statement.sql.text, statement.sql.bound(vars(row), connection))
        found = converted(cursor.fetchone(), statement.converters, connection)
    vars(row).update(zip(statement.computed, found, strict=True))
    row._state.adding, row._state.db = False, conf.DATABASE
    post_save.send(Outcome, created=True, **told)


#: For each column: it holds this row's own value, or the model's default; None: the database's.
_Shape = tuple[bool | None, ...]


class _Insert:
    """The INSERT of one outcome of a shape; slots for what is the row's own."""

    def __init__(self, row: Outcome, shape: _Shape, connection: Any) -> None:
        fields = list(zip(Outcome._meta.concrete_fields, shape, strict=True))
        own = {field.attname: Slot(field.attname, field) for field, is_own in fields if is_own}
        usual = {
            field.attname: _Literal(field.default)
            for field, is_own in fields
            if is_own is False and _Literal.can_be(field.default)
        }
        computed = [field for field, is_own in fields if is_own is None]
        into, values = insertion(Outcome(**{**_values(row), **own, **usual}), connection)
        names = ", ".join(connection.ops.quote_name(field.column) for field in computed)
        self.sql = into + Sql("VALUES (") + values + Sql(f") RETURNING {names}")
        self.computed = [field.attname for field in computed]
        self.converters = list(converters(computed, connection))


class _Literal(Expression):
    """A value in the statement's text: it need not be quoted and sent with each row."""

    def __init__(self, value: str | int) -> None:
        super().__init__(output_field=Field())
        self.value = value

    @staticmethod
    def can_be(value: Any) -> bool:
        """Tell whether a value is the same text in SQL as in Python, whatever the database."""
        return type(value) is int or value == "" or (type(value) is str and value.isidentifier())

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return repr(self.value), []


#: The INSERTs that were made, by kind of database and by shape: a project has a handful.
_made: dict[tuple[str, _Shape], _Insert] = {}


def _statement(row: Outcome, connection: Any) -> _Insert:
    """Return the INSERT of a row: a new one only where the caller gave an expression."""
    values = _values(row)
    shape = tuple(
        None if hasattr(value, "resolve_expression") else value != default
        for value, default in zip(values.values(), _defaults(), strict=True)
    )
    given = (values[name] for name, is_own in zip(values, shape, strict=True) if is_own is None)
    if not all(isinstance(value, DatabaseDefault) for value in given):
        return _Insert(row, shape, connection)
    key = connection.vendor, shape
    if key not in _made:
        _made[key] = _Insert(row, shape, connection)
    return _made[key]


@cache
def _defaults() -> Sequence[Any]:
    """Return what each column holds where nobody says more."""
    return [
        None if field.default is NOT_PROVIDED or callable(field.default) else field.default
        for field in Outcome._meta.concrete_fields
    ]


def _values(row: Outcome) -> dict[str, Any]:
    state = vars(row)
    return {field.attname: state[field.attname] for field in Outcome._meta.concrete_fields}


def insert_copies(row: Outcome, columns: Mapping[str, Sequence[Any]]) -> None:
    """
    Insert many outcomes that differ in a few columns only, by those columns' attribute names.

    One statement on PostgreSQL: a COPY, or an INSERT where the database has to compute what they
    share. Elsewhere Django's multi-row INSERT, in a transaction of its own if there is none.
    """
    connection: Any = connections[conf.DATABASE]
    if connection.vendor != "postgresql":
        Outcome.objects.bulk_create(copies(row, columns), batch_size=BATCH)
        return
    shared = _shared(row, columns, connection)
    with connection.cursor() as cursor:
        # psycopg 2 has another COPY.
        if shared is None or not hasattr(cursor, "copy"):
            _insert_lists(cursor, row, columns, connection)
        else:
            _copy(cursor, shared, columns, connection)


def copies(row: Outcome, columns: Mapping[str, Sequence[Any]]) -> Iterator[Outcome]:
    """Make the unsaved outcomes that `insert_copies` would insert."""
    shared = _values(row)
    for values in zip(*columns.values(), strict=True):
        yield Outcome(**{**shared, **dict(zip(columns, values, strict=True))})


def _shared(row: Outcome, columns: Iterable[str], connection: Any) -> dict[str, Any] | None:
    """
    Return the values, by column, that a COPY has to repeat in each row.

    None where it cannot: it computes a column's default, and no other expression.
    """
    shared = {}
    for field in Outcome._meta.concrete_fields:
        value = getattr(row, field.attname)
        if field.attname in columns or value is None or isinstance(value, DatabaseDefault):
            continue
        if not hasattr(value, "resolve_expression"):
            value = field.get_db_prep_save(value, connection)
        if not isinstance(value, COPIED):
            return None
        shared[str(field.column)] = value
    return shared


def _copy(
    cursor: Any, shared: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], connection: Any
) -> None:
    """Send the rows as PostgreSQL's text format; if one of them is refused, all are."""
    quote = connection.ops.quote_name
    names = ", ".join([*(quote(_field(name).column) for name in columns), *map(quote, shared)])
    tail = "".join(f"\t{_escaped(value)}" for value in shared.values()) + "\n"
    rows = zip(*(map(_escaped, values) for values in columns.values()), strict=True)
    # The driver's COPY knows nothing of what Django sees to around a statement.
    connection.validate_no_broken_transaction()
    with (
        connection.wrap_database_errors,
        cursor.copy(f"COPY {quote(Outcome._meta.db_table)} ({names}) FROM STDIN") as copy,
    ):
        while part := "".join(["\t".join(row) + tail for row in islice(rows, PART)]):
            copy.write(part)


def _escaped(value: Any) -> str:
    r"""
    Return a value as a COPY takes it.

    >>> _escaped("a\tb"), _escaped(None)
    ('a\\tb', '\\N')
    """
    if type(value) is UUID:
        return value.hex
    if value is None:
        return r"\N"
    text = str(value).replace("\\", r"\\").replace("\n", r"\n")
    return text.replace("\t", r"\t").replace("\r", r"\r")


def _insert_lists(
    cursor: Any, row: Outcome, columns: Mapping[str, Sequence[Any]], connection: Any
) -> None:
    """Send each column as one list, and what the rows share once."""
    template = next(copies(row, {name: [_Given(name)] for name in columns}))
    into, values = insertion(template, connection)
    # JSON is the one list of texts that Python and PostgreSQL both take apart in C.
    lists = ", ".join(["json_array_elements_text(%s::json)"] * len(columns))
    names = ", ".join(connection.ops.quote_name(name) for name in columns)
    source = Sql(f" FROM ROWS FROM ({lists}) AS given ({names})")
    sql = into + Sql("SELECT ") + values + source
    texts = [json.dumps(list(column), default=str) for column in columns.values()]
    cursor.execute(sql.text, [*sql.params, *texts])


class _Given(Expression):
    """A column of the lists of texts that are sent, as its own type."""

    def __init__(self, name: str) -> None:
        super().__init__(output_field=_field(name))

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        name = connection.ops.quote_name(self.field.attname)
        return f"given.{name}::{self.field.db_type(connection)}", []


def _field(name: str) -> Field[Any, Any]:
    """Return the field of an attribute."""
    return next(field for field in Outcome._meta.concrete_fields if field.attname == name)
