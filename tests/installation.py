"""A running installation: a migrated database and real workers, for scenarios and faults.

The tests write and commit like any other process beside the workers; nothing is rolled back or
flushed between them. Each works with a key of its own instead, so they run in any order. A
folder's `conftest` imports the fixtures that it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from pytest_django.plugin import DjangoDbBlocker

from tasks_app.models import Outcome
from tests.processes import Process, start_worker
from tests.servers.session import files
from tests.testapp.models import Effect
from tests.waiting import wait_until

#: Short times, so that a lost worker is found within a test's patience. One lease must still
#: outlast a pause of a busy machine.
SETTINGS = {"LEASE": 3, "RESCUE_INTERVAL": 1, "CANCEL_GRACE": 2}

#: Seconds that anything may take on a busy machine; nothing here needs a tenth of it.
PATIENCE = 30


@dataclass(frozen=True)
class Installation:
    """The worker under test and the means to start more like it."""

    folder: Path
    pool: str

    def environment(self, **settings: Any) -> dict[str, str]:
        """Return the variables of a process with the tests' settings and these on top."""
        return {"TASKS_TEST_SETTINGS": json.dumps({**SETTINGS, **settings})}

    def start_worker(
        self,
        name: str = "worker",
        *,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Process:
        """
        Start a worker.

        Args:
            name: Its node name and the name of its log.
            settings: Keys of `TASKS_APP` on top of `SETTINGS`.
            environment: Variables on top of this process' own, such as `TASKS_APP_CRASH` or
                `TASKS_TEST_BROKER_URL` for a broker behind a proxy.
            **options: As `tests.processes.start_worker` takes them.
        """
        options.setdefault("pool", self.pool)
        variables = {**self.environment(**(settings or {})), **(environment or {})}
        return start_worker(self.folder, name=name, environment=variables, **options)


@pytest.fixture(scope="session", autouse=True)
def installation(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Installation]:
    """The migrated database, open to every scenario."""
    pool = os.environ.get("TASKS_TEST_POOL", "prefork")
    # Not by `django_db_setup`, which leaves the database out when no test is marked with it.
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False)
        wait_for_sqlite()
        yield Installation(files(), pool)
        teardown_databases(databases, verbosity=0)


def wait_for_sqlite() -> None:
    """
    Let the statements of the tests' own process wait for SQLite's lock.

    As Django sets it up, a reader fails where a commit waits for another reader for five seconds,
    and who reads first and writes later fails at once. The processes under test have to live with
    that.
    """
    if connection.vendor == "sqlite":
        connection.close()
        patient = {"timeout": PATIENCE, "transaction_mode": "IMMEDIATE"}
        connection.settings_dict["OPTIONS"] = {**connection.settings_dict["OPTIONS"], **patient}


class MainWorker:
    """The worker that serves the default queue during all scenarios."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.process: Process | None = None

    def running(self) -> Process:
        """Return the worker, started anew where a scenario before this one has ended it."""
        if self.process is None or not self.process.running:
            self.close()
            self.process = self.installation.start_worker("main")
        return self.process

    def close(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.kill()


@pytest.fixture(scope="session")
def main_worker(installation: Installation) -> Iterator[MainWorker]:
    """The holder of the main worker."""
    with closing(MainWorker(installation)) as main:
        yield main


@pytest.fixture
def worker(main_worker: MainWorker) -> Iterator[Process]:
    """The worker of the default queue, which must live on after the scenario."""
    process = main_worker.running()
    yield process
    assert process.running, process.tail()


@pytest.fixture
def key() -> str:
    """A name that belongs to one scenario: for its effects, its trail and its queue."""
    return uuid4().hex


@pytest.fixture
def effects(key: str) -> Callable[[], list[str]]:
    """Notes of the scenario's committed effects, the first one first."""
    rows = Effect.objects.filter(key=key).order_by("pk").values_list("note", flat=True)
    return lambda: list(rows.all())


@pytest.fixture
def settled() -> Callable[[Outcome], Outcome]:
    """Wait for an outcome's final state and return it as it is then."""

    def wait(outcome: Outcome) -> Outcome:
        return in_state(outcome, "succeeded", "failed", "cancelled", "expired")

    return wait


def in_state(outcome: Outcome, *states: str) -> Outcome:
    """Wait until an outcome is in one of the states and return it as it is then."""

    def look() -> bool:
        outcome.refresh()
        return outcome.state in states

    wait_until(look, PATIENCE, lambda: f"{outcome} {' or '.join(states)}; it is {outcome!r}")
    return outcome
