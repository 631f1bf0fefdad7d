"""
The database's clock: the only clock that leases, due times and finish times are read from.

Workers, relays and web processes may disagree about the time; one database does not. Django's
`Now()` gives the session's local time on MariaDB, hence an expression of our own.
"""

from typing import Any

from django.db.models import DateTimeField, Func


class DatabaseNow(Func):
    """The current time in UTC, read by the database as it runs the statement."""

    template = "CURRENT_TIMESTAMP"
    output_field = DateTimeField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="STATEMENT_TIMESTAMP()", **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')",
            **context,
        )
