"""The installation that faults are injected into, with links that can be cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.installation import effects, installation, key, main_worker, settled, worker
from tests.servers import Proxy, Server
from tests.servers.session import (
    broker_url,
    chosen_broker,
    chosen_database,
    database_url,
    session,
)

__all__ = ["effects", "installation", "key", "main_worker", "settled", "worker"]


@dataclass(frozen=True)
class Link:
    """A proxy before one of the run's servers, and how a process is sent through it."""

    proxy: Proxy
    environment: Mapping[str, str]


def link(variable: str, url: str) -> Iterator[Link]:
    """Stand between a server and whoever reads its address from a variable."""
    address = urlsplit(url)
    with Proxy(address.port or 0) as proxy:
        yield Link(proxy, {variable: through(url, proxy)})


def through(url: str, proxy: Proxy) -> str:
    """Return a server's address by way of a proxy."""
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}", 1)


@pytest.fixture
def broker() -> Server:
    """The run's broker, where it is a server."""
    if chosen_broker() == "embedded":
        pytest.skip("the embedded broker is no server")
    return session.server(chosen_broker())


@pytest.fixture
def broker_link() -> Iterator[Link]:
    """A link to the broker that can misbehave."""
    if chosen_broker() == "embedded":
        pytest.skip("the embedded broker has no link")
    yield from link("TASKS_TEST_BROKER_URL", str(broker_url()))


@pytest.fixture
def database_link() -> Iterator[Link]:
    """A link to the database that can misbehave."""
    if chosen_database() == "sqlite":
        pytest.skip("SQLite has no link")
    yield from link("TASKS_TEST_DATABASE_URL", database_url())
