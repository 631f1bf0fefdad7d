"""The installation that faults are injected into, with links that can be cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.faults.cases.damage import (
    broker_server,
    case,
    database_server,
    patient,
    patient_worker,
    trapped,
    trapped_worker,
)
from tests.installation import effects, installation, key, settled
from tests.servers import Proxy
from tests.servers.session import (
    broker_url,
    chosen_broker,
    chosen_database,
    database_url,
)

__all__ = [
    "broker_server",
    "case",
    "database_server",
    "effects",
    "installation",
    "key",
    "patient",
    "patient_worker",
    "settled",
    "trapped",
    "trapped_worker",
]


@dataclass(frozen=True)
class Link:
    """A proxy before one of the run's servers, and how a process is sent through it."""

    proxy: Proxy
    environment: dict[str, str]


def link(variable: str, url: str) -> Iterator[Link]:
    """Stand between a server and whoever reads its address from a variable."""
    address = urlsplit(url)
    with Proxy(address.port or 0) as proxy:
        through = url.replace(f":{address.port}", f":{proxy.port}", 1)
        yield Link(proxy, {variable: through})


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
