"""The harness itself: each server starts, answers, loses or keeps its data, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import amqp
import psycopg
import pytest

from tests.children import alive
from tests.conftest import skip_or_fail
from tests.servers import MariaDB, PostgreSQL, RabbitMQ, Redis, Server
from tests.servers.session import KINDS
from tests.waiting import wait_until


@pytest.fixture(params=sorted(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind that belongs to one test."""
    skip_or_fail(request.param)
    with KINDS[request.param]() as started:
        yield started


def remember(server: Server) -> None:
    """Leave one thing in a server's data."""
    match server:
        case Redis():
            with server.client() as client:
                client.set("remembered", 1)
        case PostgreSQL():
            with psycopg.connect(server.url) as connection:
                connection.execute("CREATE TABLE remembered ()")
        case MariaDB():
            with closing(server.connect()) as connection:
                connection.query("CREATE DATABASE remembered")
        case RabbitMQ():
            with server.connect() as connection:
                connection.channel().queue_declare("remembered", durable=True, auto_delete=False)


def remembers(server: Server) -> bool:
    """Return whether that thing is still there."""
    match server:
        case Redis():
            with server.client() as client:
                return client.get("remembered") is not None
        case PostgreSQL():
            with psycopg.connect(server.url) as connection:
                found = connection.execute("SELECT to_regclass('remembered')").fetchone()
                return found != (None,)
        case MariaDB():
            with closing(server.connect()) as connection:
                connection.query("SHOW DATABASES LIKE 'remembered'")
                return bool(connection.store_result().num_rows())
        case RabbitMQ():
            with server.connect() as connection:
                try:
                    connection.channel().queue_declare("remembered", passive=True)
                except amqp.NotFound:
                    return False
                return True
    raise AssertionError(server)


def test_a_restart_keeps_or_loses_the_data_as_asked(server: Server) -> None:
    """A test decides whether a server comes back with its data, on the same address."""
    url = server.url
    remember(server)
    server.restart()
    assert remembers(server)
    server.restart(lose_data=True)
    assert not remembers(server)
    assert server.url == url


def test_a_killed_server_comes_back_on_the_same_address(server: Server) -> None:
    """A power cut leaves no process, and the server can be started again."""
    family = server.started.family()
    server.kill()
    assert not server.accepts()
    assert not any(map(alive, family))
    assert server.start().accepts()


def test_a_paused_server_answers_nobody_until_it_is_resumed(server: Server) -> None:
    """A frozen server is the hung peer that clients must survive."""
    server.pause()
    assert not server.accepts()
    server.resume()
    wait_until(server.accepts, 30, "an answer after the pause")


def test_a_closed_server_leaves_no_process_and_no_file(server: Server) -> None:
    """Nothing of a server outlives the test that started it."""
    child, folder = server.started, server.home
    family = child.family()
    server.close()
    assert child.left_behind == []
    assert not any(map(alive, family))
    assert not folder.exists()


def test_a_missing_program_is_named_in_one_line() -> None:
    """Whoever lacks a server reads what to install."""

    class Absent(Redis):
        name = "Absent"
        programs = ("no-such-program",)

    assert not Absent.is_available()
    assert Absent.missing() == "Absent is not installed: no no-such-program found"


def test_servers_do_not_touch_those_of_the_machine(redis_server: Redis) -> None:
    """Each server listens on a free port of its own, never on the standard one."""
    assert redis_server.port != 6379
    assert redis_server.accepts()
