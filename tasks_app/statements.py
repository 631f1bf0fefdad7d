"""
Conditional UPDATEs that tell what they hit, and statements whose SQL is made once.

PostgreSQL and SQLite return the written row from the UPDATE itself; MariaDB has no
`UPDATE … RETURNING`, so there the row is read in the same transaction, while it is locked.

Building a query through Django's ORM costs more than running it, so the statements of every run
are compiled once per database, from the same querysets, with slots for what each run brings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connections, transaction
from django.db.models import CharField, Expression, F, Field, Func, Model, QuerySet
from django.db.models.expressions import DatabaseDefault
from django.db.models.lookups import Exact
from django.db.models.sql import InsertQuery, UpdateQuery

from tasks_app import kept_plans
from tasks_app.conf import conf
from tasks_app.kept_plans import IDLE, Statement
from tasks_app.models import Outcome
from tasks_app.states import State

#: Rows per INSERT where each row's values are sent in full.
BATCH = 2_000

#: What the names of an UPDATE's slots begin with where it follows another one in one statement.
NEXT = "next_"

#: The place of a column in a row, the column, and what makes a value of what the driver returns.
Converters = tuple[int, Any, Sequence[Callable[..., Any]]]


def update_one(rows: QuerySet[Outcome], **values: Any) -> bool:
    """Run one guarded UPDATE; return whether it hit its row."""
    return rows.update(**values) > 0


class StateIs(Exact):
    """
    The state that a statement about one row, named by its id, expects that row to be in.

    PostgreSQL does not see an index in it: what it knows about states is as old as its last
    ANALYZE. Believing that no outcome is pending, it would look for the row among all that are.
    """

    def __init__(self, state: State) -> None:
        super().__init__(F("state"), state)

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        sql, params = self.as_sql(compiler, connection)
        return f"({sql}) IS TRUE", params


class Slot(Expression):
    """The place of a value that every execution of a statement brings, by name."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class Sql:
    """A statement's text and its parameters, some of which are slots."""

    def __init__(self, text: str, params: Iterable[Any] = ()) -> None:
        self.text = text
        self.params = tuple(params)

    def __add__(self, other: Sql) -> Sql:
        return Sql(self.text + other.text, self.params + other.params)

    def bound(self, values: Mapping[str, Any], connection: Any) -> list[Any]:
        """Return the parameters with each slot's value as the database wants it."""
        return [
            param.field.get_db_prep_value(values[param.name], connection)
            if isinstance(param, Slot)
            else param
            for param in self.params
        ]

    def execute(self, cursor: Any, values: Mapping[str, Any], connection: Any) -> None:
        """Run it."""
        cursor.execute(self.text, self.bound(values, connection))

    def apart(self, prefix: str) -> Sql:
        """Return it with other names of its slots, so that it can share a text with another."""
        params = [
            Slot(prefix + param.name, param.field) if isinstance(param, Slot) else param
            for param in self.params
        ]
        return Sql(self.text, params)


class FrequentSql(Sql):
    """
    A statement of every run on PostgreSQL, whose plan is kept where a connection is busy with it.

    Raises `PlanLost` within a transaction: see `kept_plans`.
    """

    def __init__(self, sql: Sql) -> None:
        super().__init__(sql.text, sql.params)
        self._slots = {param.name: param for param in sql.params if isinstance(param, Slot)}
        self._statement: Statement | None = None

    def execute(self, cursor: Any, values: Mapping[str, Any], connection: Any) -> None:
        def bound_once() -> list[Any]:
            return [
                slot.field.get_db_prep_value(values[name], connection)
                for name, slot in self._slots.items()
            ]

        if not kept_plans.are_possible(connection) or not kept_plans.execute(
            connection, cursor, self.statement(connection), bound_once
        ):
            super().execute(cursor, values, connection)

    def statement(self, connection: Any) -> Statement:
        """Return it with a number for each slot, and with its constants written out."""
        if self._statement is None:
            text = self._numbered(connection)
            types = [str(slot.field.db_type(connection)) for slot in self._slots.values()]
            self._statement = Statement(text, types)
        return self._statement

    def _numbered(self, connection: Any) -> str:
        numbers = {name: f"${number}" for number, name in enumerate(self._slots, 1)}
        params = iter(self.params)

        def written(place: re.Match[str]) -> str:
            if place[0] == "%%":
                return "%"
            param = next(params)
            if isinstance(param, Slot):
                return numbers[param.name]
            return str(connection.ops.compose_sql("%s", [param]))

        return re.sub("%[%s]", written, self.text)


class Prepared:
    """
    A guarded UPDATE of at most one outcome, compiled once per kind of database.

    Args:
        rows: The guarded rows; slots wherever a run brings a value.
        values: What the UPDATE sets; slots likewise.
        follows: A row to insert if the UPDATE hit; slots likewise.
    """

    def __init__(
        self, rows: QuerySet[Outcome], values: Mapping[str, Any], follows: Model | None = None
    ) -> None:
        self.rows = rows
        self.values = values
        self.follows = follows
        self._made: dict[str, _Made] = {}

    def run(self, **values: Any) -> bool:
        """Run it, with the row that follows; return whether the UPDATE hit."""
        connection = connections[conf.DATABASE]
        made = self._for(connection)
        with connection.cursor() as cursor:
            for sql in made.acts:
                sql.execute(cursor, values, connection)
                if cursor.rowcount < 1:
                    return False
        return True

    def run_returning(self, **values: Any) -> Outcome | None:
        """
        Run it and return the row as written, or None; its commit does not wait for the disk.

        One statement in autocommit on PostgreSQL and SQLite; on MariaDB two, in one transaction.
        """
        connection = connections[conf.DATABASE]
        made = self._for(connection)
        if connection.vendor == "mysql":
            return self._run_then_read(values)
        # What a crash forgets is claimed again: the commit need not be on disk.
        hasty = connection.vendor == "postgresql" and not connection.in_atomic_block
        sql = made.returning_hastily if hasty else made.returning
        with connection.cursor() as cursor:
            sql.execute(cursor, values, connection)
            row = cursor.fetchone()
        return None if row is None else made.outcome(row, connection)

    def run_and_then(
        self, values: Mapping[str, Any], following: Prepared, its_values: Mapping[str, Any]
    ) -> tuple[bool, Outcome | None]:
        """
        Run it, and another UPDATE if this one hit; return whether it did, and the other's row.

        One statement on PostgreSQL, elsewhere one after the other in the caller's transaction.
        """
        connection: Any = connections[conf.DATABASE]
        if connection.vendor != "postgresql":
            has_hit = self.run(**values)
            return has_hit, following.run_returning(**its_values) if has_hit else None
        made, next_made = self._for(connection), following._for(connection)
        both = {**values, **{NEXT + name: value for name, value in its_values.items()}}
        with connection.cursor() as cursor:
            made.and_then(next_made).execute(cursor, both, connection)
            has_hit, has_followed, *row = cursor.fetchone()
        return has_hit, next_made.outcome(row, connection) if has_followed else None

    def _run_then_read(self, values: Mapping[str, Any]) -> Outcome | None:
        with transaction.atomic(using=conf.DATABASE, savepoint=False):
            return Outcome.objects.get(pk=values["id"]) if self.run(**values) else None

    def _for(self, connection: Any) -> _Made:
        if connection.vendor not in self._made:
            self._made[connection.vendor] = _Made(self, connection)
        return self._made[connection.vendor]


def commit_alone() -> None:
    """
    Let the last statement of an `atomic` block commit by itself, if it is the first one, too.

    On PostgreSQL psycopg begins a transaction with its first statement. Around a single one BEGIN
    and COMMIT are two round trips for nothing: that is atomic and durable by itself. The block has
    to end after it; what is to follow the commit follows. Does nothing where a statement was sent
    before, within another block, and on other databases.
    """
    connection: Any = connections[conf.DATABASE]
    driver = connection.connection
    # psycopg 3 alone has a `pgconn`; a connection that was lost is None. A block within another one
    # has sent its SAVEPOINT.
    libpq = getattr(driver, "pgconn", None) if connection.vendor == "postgresql" else None
    if libpq is not None and libpq.transaction_status == IDLE:
        with connection.wrap_database_errors:
            driver.autocommit = True


class HastyCommit(Func):
    """
    A column of a SELECT that lets the transaction's commit not wait for the disk, on PostgreSQL.

    A crash of the server may forget what that wrote, as if it had not happened. Elsewhere it is a
    constant.
    """

    template = "1"
    output_field = CharField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the call that sets it for this transaction."""
        template = "set_config('synchronous_commit', 'off', true)"
        return self.as_sql(compiler, connection, template=template, **context)


def await_disk() -> None:
    """Let the transaction's commit wait for the disk after all."""
    connection = connections[conf.DATABASE]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")


def together(parts: Sequence[QuerySet[Any, Any]]) -> Iterator[Any]:
    """Yield the rows of many short queries, each of which the index answers by itself."""
    if not parts:
        return
    connection = connections[conf.DATABASE]
    sql, params = union(parts)
    convert = parts[0].query.get_compiler(connection=connection)
    convert.setup_query()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        yield from convert.results_iter([cursor.fetchall()])


def union(parts: Sequence[QuerySet[Any, Any]]) -> tuple[str, list[Any]]:
    """Return many short queries as one statement, in which each keeps its order and its limit."""
    connection = connections[conf.DATABASE]
    statements, params = [], []
    for place, part in enumerate(parts):
        sql, values = part.query.get_compiler(connection=connection).as_sql()
        statements.append(f"SELECT * FROM ({sql}) AS p{place}")  # noqa: S608 - Django wrote it
        params += values
    return " UNION ALL ".join(statements), params


def insertion(row: Model, connection: Any) -> tuple[Sql, Sql]:
    """Return `INSERT INTO … (…)` and the values of a row; the database fills in its defaults."""
    meta, quote = row._meta, connection.ops.quote_name
    values = {field: getattr(row, field.attname) for field in meta.concrete_fields}
    given = {
        field: _place(field, value, connection)
        for field, value in values.items()
        if value is not None and not isinstance(value, DatabaseDefault)
    }
    columns = ", ".join(quote(field.column) for field in given)
    places = ", ".join(place.text for place in given.values())
    params = [param for place in given.values() for param in place.params]
    return Sql(f"INSERT INTO {quote(meta.db_table)} ({columns}) "), Sql(places, params)


def _place(field: Field[Any, Any], value: Any, connection: Any) -> Sql:
    if not hasattr(value, "resolve_expression"):
        return Sql("%s", [field.get_db_prep_save(value, connection)])
    compiler = InsertQuery(field.model).get_compiler(connection=connection)
    return Sql(*compiler.compile(value.resolve_expression(compiler.query, for_save=True)))


class _Made:
    """A prepared statement in the SQL of one kind of database."""

    def __init__(self, prepared: Prepared, connection: Any) -> None:
        query: Any = prepared.rows.query.chain(UpdateQuery)
        query.add_update_values(dict(prepared.values))
        update = Sql(*query.get_compiler(connection=connection).as_sql())
        fields = Outcome._meta.concrete_fields
        columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
        self.names = [field.attname for field in fields]
        self.converters = list(converters(fields, connection))
        self.acts = list(_acts(update, prepared.follows, connection))
        self.as_first = Sql("WITH hit AS (") + update + Sql(" RETURNING 1)")
        if prepared.follows is not None:
            into, noted = insertion(prepared.follows, connection)
            note = Sql(", noted AS (") + into + Sql("SELECT ") + noted + Sql(" FROM hit)")
            self.as_first += note
        self.as_second = (
            Sql(", next_one AS (")
            + update.apart(NEXT)
            + Sql(f" AND EXISTS (SELECT FROM hit) RETURNING TRUE AS is_hit, {columns})")
            + Sql(" SELECT EXISTS (SELECT FROM hit), next_one.*")
            + Sql(" FROM (SELECT) AS anyhow LEFT JOIN next_one ON TRUE")
        )
        self.returning = update + Sql(f" RETURNING {columns}")
        self.returning_hastily = FrequentSql(
            self.returning + Sql(", set_config('synchronous_commit', 'off', true)")
        )
        self._with_next: dict[_Made, FrequentSql] = {}

    def and_then(self, following: _Made) -> FrequentSql:
        """Return one statement for this UPDATE and for the one that follows if it hit."""
        if following not in self._with_next:
            self._with_next[following] = FrequentSql(self.as_first + following.as_second)
        return self._with_next[following]

    def outcome(self, row: Sequence[Any], connection: Any) -> Outcome:
        """Return the row as a model's instance."""
        values = converted(row[: len(self.names)], self.converters, connection)
        return Outcome.from_db(conf.DATABASE, self.names, values)


def _acts(update: Sql, follows: Model | None, connection: Any) -> Iterator[Sql]:
    """Return the UPDATE and what follows it: one statement where the database can."""
    if follows is None:
        yield update
        return
    into, values = insertion(follows, connection)
    if connection.vendor == "postgresql":
        hit = Sql("WITH hit AS (") + update + Sql(" RETURNING 1) ")
        yield FrequentSql(hit + into + Sql("SELECT ") + values + Sql(" FROM hit"))
    else:
        yield update
        yield into + Sql("VALUES (") + values + Sql(")")


def converters(fields: Iterable[Field[Any, Any]], connection: Any) -> Iterator[Converters]:
    """Return what Django does to read each of the columns, where it does anything."""
    for place, field in enumerate(fields):
        column: Any = field.cached_col
        found = [
            *connection.ops.get_db_converters(column),
            *column.get_db_converters(connection),
        ]
        if found:
            yield place, column, found


def converted(row: Iterable[Any], each: Iterable[Converters], connection: Any) -> list[Any]:
    """Return a row's values as Django would have read them."""
    values = list(row)
    for place, column, found in each:
        for convert in found:
            values[place] = convert(values[place], column, connection)
    return values
