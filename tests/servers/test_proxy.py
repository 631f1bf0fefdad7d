"""The proxy's modes, each against a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Mode, Proxy, Redis
from tests.waiting import wait_until

NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
def proxy(redis_server: Redis) -> Iterator[Proxy]:
    """A proxy in front of the run's Redis."""
    with Proxy(redis_server.port) as started:
        yield started


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client behind the proxy that waits half a second and never retries."""
    with redis.Redis(port=proxy.port, socket_timeout=0.5, retry=NEVER) as connected:
        connected.ping()
        yield connected


def count(redis_server: Redis, key: str) -> int:
    """Return a counter as the server has it."""
    with redis_server.client() as direct:
        return int(direct.get(key) or 0)


def test_pass_forwards_both_ways(client: redis.Redis) -> None:
    """A proxy that passes is invisible, for large values too."""
    value = b"x" * 1_000_000
    client.set("large", value)
    assert client.get("large") == value


def test_cut_ends_open_connections_and_refuses_new_ones(proxy: Proxy, client: redis.Redis) -> None:
    """A cut shows as a connection error at once and heals with the mode."""
    proxy.set(Mode.CUT)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.set(Mode.PASS)
    assert client.ping()


def test_blackhole_holds_everything_until_it_heals(
    proxy: Proxy, client: redis.Redis, redis_server: Redis
) -> None:
    """A half-open link shows as silence; what was on its way arrives when it heals."""
    proxy.set(Mode.BLACKHOLE)
    with pytest.raises(redis.TimeoutError):
        client.incr("blackhole")
    assert count(redis_server, "blackhole") == 0
    proxy.set(Mode.PASS)
    assert client.ping()


def test_drop_reply_does_the_work_and_says_nothing(
    proxy: Proxy, client: redis.Redis, redis_server: Redis
) -> None:
    """The request takes effect although the client only sees a timeout."""
    proxy.set(Mode.DROP_REPLY)
    with pytest.raises(redis.TimeoutError):
        client.incr("drop_reply")
    assert count(redis_server, "drop_reply") == 1


def test_drop_reply_cut_does_the_work_and_ends_the_connection(
    proxy: Proxy, client: redis.Redis, redis_server: Redis
) -> None:
    """The request takes effect although the client sees a broken connection."""
    proxy.set(Mode.DROP_REPLY_CUT)
    with pytest.raises(redis.ConnectionError):
        client.incr("drop_reply_cut")
    assert count(redis_server, "drop_reply_cut") == 1


@pytest.mark.parametrize("arrives", [True, False])
def test_a_trap_ends_one_connection_at_one_request(
    proxy: Proxy, client: redis.Redis, redis_server: Redis, *, arrives: bool
) -> None:
    """Others and what came before pass; the request is done or not, and the client cannot know."""
    name = f"trap, {arrives}"
    with redis.Redis(port=proxy.port, retry=NEVER) as other:
        other.ping()
        trap = proxy.set_trap(b"INCR", after=b"marked", arrives=arrives)
        assert other.incr(name) == 1
        client.set("marked", 1)
        with pytest.raises(redis.ConnectionError):
            client.incr(name)
        assert trap.caught is not None
        assert client.incr(name) == other.incr(name) - 1 == 1 + arrives + 1
    assert count(redis_server, name) == 3 + arrives


def test_delay_makes_every_answer_late(proxy: Proxy, client: redis.Redis) -> None:
    """A slow network delays and loses nothing."""
    proxy.set(Mode.DELAY, delay=0.1)
    begin = time.monotonic()
    assert client.ping()
    assert time.monotonic() - begin >= 0.2


def test_an_ended_connection_is_forgotten(proxy: Proxy) -> None:
    """A proxy that stands for hours holds what is open now and nothing more."""
    for _ in range(5):
        with redis.Redis(port=proxy.port, socket_timeout=2, retry=NEVER) as client:
            client.ping()
    wait_until(lambda: not proxy.connections, 10, "the end of every connection")
    assert len(proxy.threads) == 1


def test_an_absent_server_shows_as_an_ended_connection(proxy: Proxy) -> None:
    """A proxy whose target is down takes the connection and ends it."""
    with Redis() as absent:
        port = absent.port
    with (
        Proxy(port) as lonely,
        redis.Redis(port=lonely.port, socket_timeout=2, retry=NEVER) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()
