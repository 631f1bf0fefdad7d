"""The row that a task or a caller writes beside its call, in every contestant's database."""

import os
from functools import cache

TABLE = "CREATE TABLE benchmark_row (id bigserial PRIMARY KEY, number integer NOT NULL)"
WRITE = "INSERT INTO benchmark_row (number) VALUES (%s)"
COUNT = "SELECT count(*) FROM benchmark_row"


def write(number: int) -> None:
    """Write a row through Django's connection, in its transaction if it has one."""
    from django.db import connection  # noqa: PLC0415 - some contestants have no Django

    with connection.cursor() as cursor:
        cursor.execute(WRITE, [number])


def write_alone(number: int) -> None:
    """Write a row through a connection that this process keeps, and commit it."""
    _connection(os.getpid()).execute(WRITE, [number])


@cache
def _connection(pid: int):  # noqa: ANN202 - of psycopg, which not every environment has
    import psycopg  # noqa: PLC0415

    return psycopg.connect(os.environ["BENCHMARK_DATABASE"], autocommit=True)
