"""
A secret's way through a whole installation, followed by its own unmistakable text.

Real workers run a helper that lets its secret go wherever a careless helper lets one go, in every
way a run can end. What then lies in logs, on the broker's wire, in events, with Sentry, on Flower's
and the admin's pages, in the console and in the database is searched for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tasks_app.exceptions import TaskFailed
from tasks_app.models import Outcome
from tasks_app.states import FINAL
from tests.conftest import started
from tests.integration.command_line import claimed, tasks
from tests.processes import Process, launch
from tests.security.sinks import (
    CREDENTIALS,
    SentryServer,
    answer,
    monitored,
    received_events,
    with_bodies,
)
from tests.servers.server import free_port
from tests.servers.session import files
from tests.testapp.tasks import charge
from tests.waiting import wait_until

#: With what is written differently by Python, by JSON and in a URL.
CARD = "canary-card'\"\n é/4242"
PIN = "canary-pin-1234"
CANARY = "canary-"

#: A number that is no secret, by which each place shows that it was looked at.
ORDER = 471_100

MOODS = ("pay", "retry", "fail", "decline", "hang", "die", "malformed")

#: How a worker initialises Sentry, by the name of its queue.
SENTRY: dict[str, dict[str, Any]] = {
    "as-it-comes": {},
    "with-everything": {"send_default_pii": True, "attach_stacktrace": True},
}

SETTINGS = {"REDACT": ["pin"], "LEASE": 8, "RESCUE_INTERVAL": 1, "MAX_CRASHES": 1}

PATIENCE = 60


@dataclass
class Aftermath:
    """All that an installation left behind."""

    places: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)


def enqueued(queue: str) -> list[Outcome]:
    """Enqueue one call for each way that a run can end."""
    calls = []
    for number, mood in enumerate(MOODS):
        details = {"cards": [{"pin": PIN, "place": "Oslo"}]}
        order = ORDER + 10 * list(SENTRY).index(queue) + number
        kwargs = {"card_token": CARD, "mood": mood, "details": details}
        limit = 2 if mood == "hang" else None
        called = charge.apply_async((order,), kwargs, queue=queue, time_limit=limit)
        outcome = Outcome.objects.get(pk=called.id)
        if mood == "malformed":
            stale = json.dumps({"card_token": CARD, "mood": mood, "gone": PIN, "pin": PIN})
            Outcome.objects.filter(pk=outcome.pk).update(kwargs_json=stale)
        calls.append(outcome)
    return calls


@pytest.fixture(scope="module")
def aftermath(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    """Run it all once, on a Redis whose every command is recorded."""
    redis = started("redis")
    folder = tmp_path_factory.mktemp("redaction")
    broker = {"TASKS_TEST_BROKER": "redis", "TASKS_TEST_BROKER_URL": redis.url}
    found = Aftermath()
    with django_db_blocker.unblock(), ExitStack() as stack:
        stack.callback(call_command, "flush", verbosity=0, interactive=False)
        wire = stack.enter_context(monitored(redis.port))
        sentries = {queue: stack.enter_context(closing(SentryServer())) for queue in SENTRY}
        workers = {
            queue: stack.enter_context(start(folder, queue, sentry, broker))
            for queue, sentry in sentries.items()
        }
        pages = FlowerPages(free_port())
        flower = stack.enter_context(start_flower(folder, pages.port, broker))
        events = stack.enter_context(received_events(redis.url))
        for process in workers.values():
            process.wait_for_output(" ready.")
        wait_until(pages.know_all_workers, PATIENCE, flower.tail)
        found.outcomes = [outcome for queue in SENTRY for outcome in enqueued(queue)]
        wait_for_all(pages, sentries)
        found.places = {
            "Flower": "\n".join(pages.all(found.outcomes)),
            "Flower's metrics": pages.read("/metrics"),
            "Flower's log": flower.output,
            "the events": "\n".join(events),
            **{f"the log of {queue}": process.output for queue, process in workers.items()},
            **{f"Sentry {queue}": sentry.text for queue, sentry in sentries.items()},
            "the wire": with_bodies(b"".join(wire).decode(errors="replace")),
        }
        yield found


def start(folder: Path, queue: str, sentry: SentryServer, broker: dict[str, str]) -> Process:
    """Start the worker of a queue, without waiting for it."""
    environment = {
        **broker,
        "TASKS_TEST_SENTRY": sentry.options(**SENTRY[queue]),
        "TASKS_TEST_SETTINGS": json.dumps(SETTINGS),
    }
    words = ("celery", "-A", "tests.project", "worker", "--hostname", f"{queue}@%h")
    # Events from the first run on: Flower asks for them only every few seconds.
    options = ("--queues", queue, "--concurrency", "2", "--loglevel", "INFO", "--task-events")
    return launch(folder, queue, (*words, *options), environment)


def start_flower(folder: Path, port: int, broker: dict[str, str]) -> Process:
    words = ("celery", "-A", "tests.project", "flower", "--address=127.0.0.1", f"--port={port}")
    return launch(folder, "flower", (*words, f"--basic_auth={CREDENTIALS}"), broker)


class FlowerPages:
    """Flower, as somebody reads it who is logged in."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def read(self, page: str) -> str:
        return answer(self.address + page, credentials=CREDENTIALS)[1]

    def know_all_workers(self) -> bool:
        page = self.read("/workers")
        return all(f"{queue}@" in page for queue in SENTRY)

    def states(self) -> set[str]:
        """Return the states of the tasks that it knows."""
        known = self.read("/api/tasks")
        return {task["state"] for task in json.loads(known).values()} if known else set()

    def all(self, outcomes: list[Outcome]) -> Iterator[str]:
        """Yield the pages and the answers of the API."""
        yield from map(self.read, ("/tasks", "/api/tasks", "/broker"))
        workers = self.read("/api/workers?refresh=1")
        yield from (workers, self.read("/workers?json=1"))
        yield from (self.read(f"/worker/{worker}") for worker in json.loads(workers))
        query = "draw=1&start=0&length=100&order[0][column]=0&order[0][dir]=asc&search[value]="
        yield self.read(f"/tasks/datatable?{query}&columns[0][data]=name")
        for outcome in outcomes:
            yield self.read(f"/task/{outcome.pk}")
            yield self.read(f"/api/task/info/{outcome.pk}")


def wait_for_all(pages: FlowerPages, sentries: dict[str, SentryServer]) -> None:
    """Wait until every run has ended and what tells of it has arrived."""
    open_ones = Outcome.objects.exclude(state__in=FINAL)
    wait_until(lambda: not open_ones.exists(), PATIENCE, lambda: repr(list(open_ones)))
    wait_until(lambda: pages.states() == {"SUCCESS", "FAILURE"}, PATIENCE, pages.states)
    for sentry in sentries.values():
        # The last error that its workers tell of: the hard time limit.
        wait_until(lambda s=sentry: "hard time limit" in s.text, PATIENCE, lambda s=sentry: s.text)


PLACES = {
    "Flower": f"{ORDER}",
    "Flower's metrics": 'task="tests.charge"',
    "Flower's log": "Visit me at",
    "the events": "task-succeeded",
    "the log of as-it-comes": "is declined",
    "the log of with-everything": "is declined",
    "Sentry as-it-comes": "is declined",
    "Sentry with-everything": "is declined",
    "the wire": "tests.charge",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_comes_to(aftermath, place):
    """What the helper did can be seen there, its secrets cannot."""
    text = aftermath.places[place]
    assert PLACES[place] in text
    assert CANARY not in text, around(text)


def around(text: str) -> str:
    """Return what stands before and after each secret."""
    parts = text.split(CANARY)
    return "\n…\n".join(f"{a[-300:]}<<>>{b[:60]}" for a, b in pairwise(parts))


@pytest.fixture
def database(aftermath: Aftermath, django_db_blocker: Any, settings: Any) -> Iterator[Aftermath]:
    """The database as the workers left it."""
    settings.TASKS_APP = {"REDACT": SETTINGS["REDACT"]}
    with django_db_blocker.unblock():
        yield aftermath


def test_each_way_to_end_was_taken(database):
    """Otherwise the rest would prove nothing."""
    ends = [(o.state, o.reason) for o in map(refreshed, database.outcomes[: len(MOODS)])]
    assert ends == [
        ("succeeded", ""),
        ("succeeded", ""),
        ("failed", "not_retryable"),
        ("failed", "retries_exhausted"),
        ("failed", "time_limit"),
        ("failed", "worker_lost"),
        ("failed", "not_retryable"),
    ]


def refreshed(outcome: Outcome) -> Outcome:
    outcome.refresh()
    return outcome


def test_variables_that_hold_no_secret_still_come_to_sentry(aftermath):
    """Scrubbing leaves what one looks for in an error: the helper's other variables."""
    sent = aftermath.places["Sentry as-it-comes"]
    assert '"mood":"\'decline\'"' in sent
    assert '"card_token":"***"' in sent


def test_no_secret_is_in_a_row_beside_the_call_and_its_result(database):
    """The call's own columns hold it, since the helper needs it, and so does what it returned."""
    held = {"args_json", "kwargs_json", "result_json"}
    seen = 0
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.managed:
            continue
        for row in model._base_manager.values():
            text = repr({k: v for k, v in row.items() if model is not Outcome or k not in held})
            assert CANARY not in text, (model, row)
            seen += str(ORDER) in text
    assert seen


def test_no_secret_is_on_a_page_of_the_admin(database):
    """Not for a superuser either."""
    user = get_user_model().objects.create_superuser("reader")
    client = Client()
    client.force_login(user)
    address = "admin:tasks_app_outcome"
    pages = [
        reverse(f"{address}_changelist"),
        *(reverse(f"{address}_change", args=[outcome.pk]) for outcome in database.outcomes),
        *(reverse(f"{address}_history", args=[outcome.pk]) for outcome in database.outcomes),
    ]
    text = "".join(client.get(page).content.decode() for page in pages)
    user.delete()
    assert str(ORDER) in text
    assert CANARY not in text, around(text)


def test_no_secret_is_in_the_console(database):
    """Whatever is asked for."""
    commands = [["list"], ["list", "--json"], ["doctor"]]
    for outcome in database.outcomes[: len(MOODS)]:
        commands += [
            ["show", outcome.pk],
            ["show", outcome.pk, "--arguments"],
            ["show", outcome.pk, "--arguments", "--json"],
            ["retry", outcome.pk],
        ]
    typed = [tasks(*words) for words in commands]
    text = "".join(each.output + each.errors for each in typed)
    assert str(ORDER) in text
    assert CANARY not in text, around(text)


def test_no_secret_is_in_what_python_shows(database):
    """Neither the outcome nor the error that waiting for it raises."""
    for outcome in database.outcomes:
        assert CANARY not in repr(outcome) + str(outcome)
        if outcome.state == "failed":
            with pytest.raises(TaskFailed) as caught:
                outcome.get(timeout=1)
            assert CANARY not in repr(caught.value) + str(vars(caught.value))
            result = current_app.AsyncResult(str(outcome.pk))
            assert CANARY not in repr(result.result)


@pytest.mark.django_db(transaction=True)
def test_no_secret_lies_in_the_embedded_broker():
    """Its files hold a doorbell each, and no arguments."""
    charge.enqueue(ORDER, card_token=CARD, mood="pay", details={"pin": PIN})
    tasks("relay", "--once")
    messages = [path for path in files().rglob("*") if path.is_file() and "sqlite" not in path.name]
    text = with_bodies("\n".join(path.read_text(errors="replace") for path in messages))
    assert "tests.charge" in text or "redis" in current_app.conf.broker_url
    assert "canary-card" not in text


@pytest.mark.django_db
def test_a_key_made_of_a_secret_is_kept_by_its_hash():
    """It keeps its meaning: the same call finds it, another call does not, a replay hands it on."""
    first = charge.enqueue(ORDER, card_token=CARD, mood="pay")
    again = charge.enqueue(ORDER, card_token=CARD, mood="pay")
    other = charge.enqueue(ORDER, card_token="canary-other", mood="pay")
    assert (again.pk, again.created) == (first.pk, False)
    assert other.created
    assert first.idempotency_key.startswith("sha256:")
    assert first.idempotency_key != other.idempotency_key
    claimed(first)
    assert first.cancel()
