"""What the tap hears, against a real PostgreSQL and psycopg."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.servers import PostgreSQL, Tap


@pytest.fixture
def tap(postgres: PostgreSQL) -> Iterator[Tap]:
    """A tap in front of the run's PostgreSQL."""
    with Tap(postgres.port) as started:
        yield started


@pytest.fixture
def client(tap: Tap) -> Iterator[psycopg.Connection]:
    """A client behind the tap that commits by itself; its connecting has been heard."""
    url = f"postgres://postgres@127.0.0.1:{tap.port}/postgres"
    with psycopg.connect(url, autocommit=True) as connected:
        yield connected


def test_connecting_is_one_connection_and_no_statement(tap, client):
    """A client asks for TLS, is refused, and starts up: two round trips."""
    heard = tap.take()
    assert (heard.connections, heard.statements) == (1, 0)
    assert heard.round_trips == 2


def test_each_statement_is_a_round_trip(tap, client):
    """Simple and parametrised ones alike; those that frame them are no statements."""
    tap.take()
    with client.transaction():
        client.execute("SELECT 1")
        client.execute("select %s", [2])
    heard = tap.take()
    assert heard.verbs == ["BEGIN", "SELECT", "SELECT", "COMMIT"]
    assert heard.statements == 2
    assert heard.round_trips == 4
    assert heard.connections == 0


def test_a_prepared_statement_counts_at_each_execution(tap, client):
    """Preparing it is a round trip and no statement."""
    tap.take()
    for number in range(2):
        client.execute("SELECT %s::int", [number], prepare=True)
    heard = tap.take()
    assert heard.verbs == ["SELECT", "SELECT"]
    assert heard.round_trips == 3


def test_a_pipeline_is_one_round_trip(tap, client):
    """However many statements go out before its end."""
    tap.take()
    with client.pipeline():
        for number in range(5):
            client.execute("SELECT %s", [number])
    heard = tap.take()
    assert heard.statements == 5
    assert heard.round_trips == 1


def test_reading_within_a_pipeline_is_a_round_trip(tap, client):
    """The client cannot go on without the answer."""
    tap.take()
    with client.pipeline():
        assert client.execute("SELECT 1").fetchone() == (1,)
        client.execute("SELECT 2")
    assert tap.take().round_trips == 2


def test_copying_is_two_round_trips(tap, client):
    """The server says that it is ready, and later that it has all."""
    client.execute("CREATE TEMPORARY TABLE copied (number int)")
    tap.take()
    with client.cursor().copy("COPY copied FROM STDIN") as copy:
        for number in range(1_000):
            copy.write_row([number])
    heard = tap.take()
    assert heard.verbs == ["COPY"]
    assert heard.round_trips == 2


def test_what_was_taken_is_not_counted_again(tap, client):
    """Each count begins at nothing."""
    tap.take()
    client.execute("SELECT 1")
    assert tap.take().statements == 1
    assert tap.take().statements == 0


def test_a_message_may_come_in_pieces(tap, client):
    """One statement of a megabyte is one statement."""
    tap.take()
    client.execute("SELECT length(%s)", ["x" * 1_000_000])
    assert tap.take().verbs == ["SELECT"]
