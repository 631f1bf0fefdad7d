"""What the cases of a call's path share: one case with a queue of its own, and its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tasks_app.broker import Publisher
from tasks_app.models import Outcome
from tasks_app.states import FINAL
from tests.installation import PATIENCE, Installation, MainWorker, in_state
from tests.processes import ROOT, Process, launch, start_command
from tests.project import app
from tests.testapp import tasks
from tests.testapp.models import Effect
from tests.waiting import wait_until

#: Seconds within which everything due runs once a broker is back.
BROKER_RECOVERY = 15


@dataclass(frozen=True)
class Case:
    """One case: its queue, what became of it, and the processes that it lets die."""

    installation: Installation
    key: str
    report: Callable[[str, Any], None]

    def enqueue(self, note: str = "", task: Any = tasks.record) -> Outcome:
        """Enqueue a call that takes effect for the case, to the case's own queue."""
        arguments = [self.key, note] if note else [self.key]
        outcome: Outcome = task.using(queue=self.key).enqueue(*arguments)
        return outcome

    @property
    def effects(self) -> list[str]:
        """Notes of the case's committed effects, in the order of the alphabet."""
        notes = Effect.objects.filter(key=self.key).values_list("note", flat=True)
        return sorted(notes)

    def succeeds(self, *outcomes: Outcome) -> None:
        """Wait for the success of the given outcomes, or of all in the case's queue."""
        for outcome in outcomes or Outcome.objects.filter(queue=self.key):
            in_state(outcome, *FINAL)
            assert outcome.state == "succeeded", repr(outcome)

    @contextmanager
    def recovers_within(self, limit: float) -> Iterator[None]:
        """Begin a block when a fault ends; it has to end in time, and the report says when."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.report("recovered_seconds", round(took, 1))
        assert took <= limit, f"recovered after {took:.1f} s, not within {limit:g} s"

    def worker(self, name: str = "worker", *, relay: bool = False, **options: Any) -> Process:
        """Start a worker of the case's own queue; without a relay unless it is wanted."""
        settings = {"RELAY_IN_WORKER": relay, **options.pop("settings", {})}
        options.setdefault("queues", [self.key])
        return self.installation.start_worker(f"{name}-{self.key}", settings=settings, **options)

    def relay(self, name: str = "relay", **environment: str) -> Process:
        """Start a relay of its own; it looks for rows as soon as it runs."""
        return self.command("relay", name=name, **environment)

    def command(self, *words: str, name: str = "command", **environment: str) -> Process:
        """Start `manage.py tasks …`."""
        variables = {**self.installation.environment(), **environment}
        named = f"{name}-{self.key}"
        return start_command(
            self.installation.folder, "tasks", *words, name=named, environment=variables
        )

    def beat(self, name: str = "beat", **environment: str) -> Process:
        """Start `celery beat` with the app's scheduler."""
        variables = {**self.installation.environment(), **environment}
        command = ["celery", "-A", "tests.project", "beat", "--loglevel", "INFO"]
        return launch(self.installation.folder, f"{name}-{self.key}", command, variables)

    def client(self, lines: str, **environment: str) -> Client:
        """Run lines of a project's code to their end, in a process that is no worker."""
        variables = {
            **os.environ,
            **self.installation.environment(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        return subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{CLIENT}{lines}"],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


Client = subprocess.CompletedProcess[str]

#: What the lines of a client may use.
CLIENT = """
from django.db import Error, transaction
from tests import trail
from tests.testapp import tasks
"""


@pytest.fixture
def case(installation: Installation, key: str, record_property: Callable[[str, Any], None]) -> Case:
    """The case in hand."""
    return Case(installation, key, record_property)


@pytest.fixture
def alone(main_worker: MainWorker) -> None:
    """No relay runs but those that the case starts."""
    main_worker.close()


def messages(queue: str) -> int:
    """Return how many messages wait in a queue at the broker."""
    with Publisher(app) as publisher:
        return publisher.messages([queue])[queue]


def wait_for_messages(queue: str, least: int) -> None:
    """Wait until at least so many messages wait in a queue."""
    with Publisher(app) as publisher:
        wait_until(
            lambda: publisher.messages([queue])[queue] >= least,
            PATIENCE,
            f"{least} messages in {queue}",
        )


def ring(*outcomes: Outcome) -> None:
    """Send a message for each outcome, as a relay does that has taken their rows."""
    with Publisher(app) as publisher:
        publisher.ring(outcomes)
