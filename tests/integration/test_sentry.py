"""
What Sentry's server hears of real processes: web, workers, beat, and those that are killed.

One worker and one server serve the whole module. What is told of single events, and of secrets in
them, is seen in `tests/security`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app import filesystem
from tasks_app.integrations.sentry.monitors import monitor_config
from tasks_app.integrations.sentry.slots import Slot
from tasks_app.models import Outcome
from tests import trail
from tests.pages import asked
from tests.processes import Process, launch
from tests.servers.ingest import Ingest
from tests.servers.server import free_port
from tests.servers.session import broker_url, files
from tests.testapp import tasks
from tests.waiting import wait_until

#: Seconds that anything may take on a busy machine.
PATIENCE = 60

SETTINGS = {
    "LEASE": 3,
    "RESCUE_INTERVAL": 0.5,
    "RELAY_INTERVAL": 0.1,
    "MAX_CRASHES": 1,
    "ADMIN_URL": "https://ops.example/admin/",
}

#: Projects by who calls `sentry_sdk.init`: nobody, the project, and nobody for adopted tasks.
PLAIN, OWN, ADOPTED, IGNORED = 1, 2, 3, 9


ADOPTED_BROKER = broker_url() or filesystem.url(files() / "adopted")


class Site:
    """Everything that runs in this module, and the server that they tell."""

    def __init__(self, folder: Path, ingest: Ingest) -> None:
        self.folder = folder
        self.ingest = ingest
        self.port = free_port()

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "tests.sentried.settings",
            "TASKS_TEST_SETTINGS": json.dumps(SETTINGS),
            "SENTRY_DSN": self.ingest.dsn(PLAIN),
            **variables,
        }

    def own(self) -> dict[str, str]:
        """Return variables of processes that initialise Sentry themselves."""
        dsn = self.ingest.dsn
        return {"SENTRY_DSN": dsn(IGNORED), "TASKS_TEST_OWN_SENTRY": dsn(OWN)}

    def worker(self, queue: str, app: str = "tests.project", **variables: str) -> Process:
        """Start the worker of a queue, without waiting for it."""
        words = ("celery", "-A", app, "worker", "--hostname", f"{queue}@%h", "--loglevel", "INFO")
        options = ("--queues", queue, "--concurrency", "2")
        return launch(self.folder, queue, (*words, *options), self.environment(**variables))

    def beat(self, name: str, environment: dict[str, str]) -> Process:
        words = ("celery", "-A", "tests.project", "beat", "--loglevel", "DEBUG")
        return launch(self.folder, name, words, environment)

    def web(self, name: str = "web", port: int | None = None, **variables: str) -> Process:
        words = ("django", "runserver", "--noreload", f"127.0.0.1:{port or self.port}")
        return launch(self.folder, name, words, self.environment(**variables))

    def get(self, page: str, request_id: str, port: int | None = None) -> str:
        """Return what a page answers, also with an error."""
        _, text = asked(port or self.port, page, {"X-Request-ID": request_id})
        return text


@pytest.fixture(scope="module")
def site(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A web process and three workers: one by the DSN alone, one adopted, one by its own init."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        stack.callback(call_command, "flush", verbosity=0, interactive=False)
        ingest = stack.enter_context(Ingest())
        made = Site(tmp_path_factory.mktemp("sentry"), ingest)
        started = [
            stack.enter_context(made.worker("celery")),
            stack.enter_context(made.worker("own", **made.own())),
            stack.enter_context(
                made.worker(
                    "adopted",
                    "tests.adopted",
                    DJANGO_SETTINGS_MODULE="tests.sentried.adopted",
                    SENTRY_DSN=ingest.dsn(ADOPTED),
                )
            ),
        ]
        web = stack.enter_context(made.web())
        for process in started:
            process.wait_for_output(" ready.")
        web.wait_for_output("Quit the server")
        yield made


@pytest.fixture(autouse=True)
def database(site: Site, django_db_blocker: Any) -> Iterator[None]:
    """The database that the processes share."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def ingest(site: Site) -> Ingest:
    """What Sentry's server has heard."""
    return site.ingest


def final(outcome: Outcome) -> Outcome:
    """Wait for an outcome's end and return it."""

    def look() -> bool:
        outcome.refresh()
        return outcome.is_final

    wait_until(look, PATIENCE, lambda: f"the end of {outcome!r}")
    return outcome


def only_event(ingest: Ingest, outcome: Outcome) -> Any:
    """Return the one event of an outcome."""
    event = ingest.wait_for("event", outcome_id=outcome.pk)
    told = [e for e in ingest.of("event") if str(outcome.pk) in json.dumps(e.payload)]
    assert told == [event]
    return event


def wait_for_the_rest(ingest: Ingest, outcome: Outcome) -> None:
    """Return when something later has come from the process that ended an outcome."""
    process = outcome.attempts.last().worker
    later = tasks.fail_later.using(queue=outcome.queue)
    for _ in range(20):
        # Of calls that come together each process has some; lone ones may all go to another one.
        several = [final(each) for each in [later.enqueue("later") for _ in range(4)]]
        for each in several:
            ingest.wait_for("event", outcome_id=each.pk)
        if process in {each.attempts.get().worker for each in several}:
            return
    raise AssertionError(f"{process} ran nothing more")


def values_of(event: Any) -> list[tuple[str, str]]:
    return [(value["type"], value["value"]) for value in event.payload["exception"]["values"]]


@pytest.fixture(scope="module")
def declined(site: Site) -> Any:
    """A call of a web request that fails in both its attempts."""
    request_id = f"web-{uuid4().hex}"
    outcome = Outcome.objects.get(pk=site.get("/pay/?order=7", request_id))
    return final(outcome)


def test_the_last_error_of_a_call_is_one_event_with_all_that_leads_to_it(ingest, declined):
    """The helper's own exception, found by request, outcome, task, attempt, queue and key."""
    event = only_event(ingest, declined)
    assert event.project == PLAIN
    assert values_of(event) == [("ValueError", "order 7 is declined, 2 fields")]
    assert {name: event.tags[name] for name in ("task", "attempt", "queue", "request_id")} == {
        "task": "tests.charge",
        "attempt": "2",
        "queue": "celery",
        "request_id": declined.request_id,
    }
    assert declined.request_id.startswith("web-")
    assert event.tags["idempotency_key"] not in {"", declined.idempotency_key}
    assert event.payload["transaction"] == "tests.charge"
    address = f"https://ops.example/admin/tasks_app/outcome/{declined.pk}/change/"
    assert event.payload["contexts"]["outcome"] == {"id": str(declined.pk), "url": address}


def test_an_event_shows_the_projects_code_and_not_this_apps(ingest, declined):
    """Its frames are those that Sentry groups by, with variables, without secrets."""
    frames = only_event(ingest, declined).frames
    theirs = [frame for frame in frames if frame.get("in_app")]
    assert [frame["function"] for frame in theirs] == ["charge"]
    assert theirs[0]["vars"]["order_id"] == "7"
    assert not [f for f in frames if f["module"].startswith("tasks_app.") and "vars" in f]
    assert "canary" not in ingest.text


def test_an_error_that_is_tried_again_is_a_breadcrumb_of_the_last_one(ingest, declined):
    """The first attempt has no event, and the event tells of it."""
    first, last = declined.attempts.all()
    event = only_event(ingest, declined)
    assert (first.sentry_event_id, last.sentry_event_id) == ("", event.payload["event_id"])
    crumbs = event.payload["breadcrumbs"]["values"]
    told = [crumb["message"] for crumb in crumbs if crumb["category"] == "tasks_app.attempt"]
    assert told == ["attempt 1 retried: order 7 is declined, 2 fields"]


def test_an_error_of_a_request_has_its_id(site, ingest):
    """The id that the response bears leads to what went wrong in it."""
    request_id = f"web-{uuid4().hex}"
    site.get("/break/", request_id)
    event = ingest.wait_for("event", request_id=request_id)
    assert values_of(event) == [("LookupError", "the page broke")]


def test_an_error_of_a_coroutine_is_one_event(ingest):
    """Async helpers are told of like others."""
    outcome = final(tasks.fail_later.enqueue("key"))
    event = only_event(ingest, outcome)
    assert values_of(event) == [("LookupError", "key fails later")]
    assert [frame["function"] for frame in event.frames if frame.get("in_app")] == ["fail_later"]


def test_an_error_that_celery_is_not_told_as_it_is_is_one_event_too(ingest):
    """Its text holds a secret, so Celery gets another exception, which its integration sees."""
    outcome = final(tasks.charge.enqueue(9, card_token="canary-card", mood="fail"))
    wait_for_the_rest(ingest, outcome)
    event = only_event(ingest, outcome)
    assert [name for name, _ in values_of(event)] == ["KeyError", "Declined"]
    assert "canary" not in ingest.text


def test_an_adopted_task_is_told_of_once(ingest):
    """A plain Celery task, sent by somebody who knows nothing of outcomes."""
    task_id = str(uuid4())
    with Celery("caller", broker=ADOPTED_BROKER, set_as_current=False) as caller:
        options = {"queue": "adopted", "task_id": task_id, "ignore_result": True}
        caller.send_task("tests.adopted.tasks.commit_halfway", [task_id], **options)
    event = ingest.wait_for("event", outcome_id=task_id)
    outcome = final(Outcome.objects.get(pk=task_id))
    assert only_event(ingest, outcome) == event
    assert (event.project, event.tags["task"]) == (ADOPTED, outcome.task_name)
    assert values_of(event) == [("KeyError", "'second half'")]


def hang(key: str) -> Outcome:
    """Enqueue a call that outstays its limit."""
    return Outcome.objects.get(pk=tasks.charge.apply_async((8, key, "hang"), time_limit=1).id)


def test_what_the_main_process_saw_names_the_task(ingest):
    """A killed child and a hard limit: one event each, in a group of their task's own."""
    hung, killed = hang(uuid4().hex), tasks.die.enqueue(uuid4().hex, 9)
    for outcome, reason, error in (
        (killed, "worker_lost", "WorkerLostError"),
        (hung, "time_limit", "TimeLimitExceeded"),
    ):
        event = only_event(ingest, final(outcome))
        assert (outcome.reason, values_of(event)[0][0]) == (reason, error)
        assert event.payload["fingerprint"] == ["tasks_app", reason, outcome.task_name]
        assert (event.tags["task"], event.tags["attempt"]) == (outcome.task_name, "1")
        assert event.payload["contexts"]["outcome"]["id"] == str(outcome.pk)
        stored = wait_until(
            lambda o=outcome: o.attempts.get().sentry_event_id, PATIENCE, "the id of the event"
        )
        assert stored == event.payload["event_id"]


def test_what_celery_logs_of_an_end_is_no_event_of_its_own(ingest):
    """Nothing that came before a later event of the same process was told by a log line."""
    for _ in range(2):
        only_event(ingest, final(tasks.die.enqueue(uuid4().hex, 9)))
    logged = [item.payload for item in ingest.of("event") if item.payload.get("logger")]
    assert not logged


def test_the_projects_own_init_wins(ingest):
    """Its DSN is told, ours is not, and there is one transaction per run, in the caller's trace."""
    outcome = final(tasks.fail_later.using(queue="own").enqueue("own"))
    event = only_event(ingest, outcome)
    assert event.project == OWN
    transaction = ingest.wait_for("transaction", outcome_id=outcome.pk)
    assert transaction.payload["transaction"] == outcome.task_name
    assert transaction.trace_id == event.trace_id
    wait_for_the_rest(ingest, outcome)
    told = [t for t in ingest.of("transaction") if str(outcome.pk) in json.dumps(t.payload)]
    assert told == [transaction]
    assert not [item for item in ingest.items if item.project == IGNORED]


def test_a_trace_goes_on_from_the_request_to_the_task(ingest, declined):
    """The row's headers bear it, so it outlives the broker and a retry."""
    stored = json.loads(declined.trace_context)
    assert only_event(ingest, declined).trace_id == stored["sentry-trace"].partition("-")[0]
    assert set(stored) == {"sentry-trace", "sentry-baggage"}


def due(name: str, task: str, queue: str, args: str) -> None:
    """Make a schedule that has been due for a while, and is not due again meanwhile."""
    rarely, _ = IntervalSchedule.objects.get_or_create(every=1000, period=IntervalSchedule.DAYS)
    PeriodicTask.objects.create(
        name=name,
        task=task,
        interval=rarely,
        queue=queue,
        args=args,
        last_run_at=timezone.now() - timedelta(days=1000),
    )


@pytest.mark.parametrize(
    ("queue", "other", "own"),
    [("celery", "own", False), ("own", "celery", True)],
    ids=["told by this app", "opened by the SDK"],
)
def test_each_slot_of_a_schedule_checks_in_and_out(site, ingest, queue, other, own):
    """Once each, under one id, also where the worker's child was killed or the SDK watches beat."""
    PeriodicTask.objects.all().delete()
    due(f"{queue} good", tasks.add.name, queue, "[2, 3]")
    due(f"{queue} bad", tasks.fail_later.name, queue, '["key"]')
    # Elsewhere, lest the child die with the others' unsent check-ins.
    due(f"{queue} lost", tasks.die.name, other, f'["{uuid4().hex}", 9]')
    endings = {"good": "ok", "bad": "error", "lost": "error"}
    with site.beat(f"beat-{queue}", site.environment(**(site.own() if own else {}))):
        for name in endings:
            wait_until(
                lambda n=name: len(ingest.check_ins(f"{queue} {n}")) >= 2,
                PATIENCE,
                lambda n=name: f"check-ins of {queue} {n}: {ingest.of('check_in')}",
            )
    for name, ending in endings.items():
        (opened, begun), (closed, ended) = ingest.check_ins(f"{queue} {name}")
        assert (begun, ended, opened) == ("in_progress", ending, closed)
    config = next(
        item.payload["monitor_config"]
        for item in ingest.of("check_in")
        if item.payload["monitor_slug"] == f"{queue} good"
    )
    assert config["schedule"] == {"type": "interval", "value": 1000, "unit": "day"}


def test_the_transaction_of_a_request_has_its_id(site, ingest):
    """Each its own, where the project traces its pages."""
    port, ids = free_port(), [f"page-{uuid4().hex}" for _ in range(2)]
    with site.web("traced", port, **site.own()) as web:
        web.wait_for_output("Quit the server")
        for request_id in ids:
            site.get("/break/", request_id, port)
        for request_id in ids:
            transaction = ingest.wait_for("transaction", request_id=request_id)
            assert transaction.payload["transaction"] == "/break/"


def test_a_schedule_of_a_task_without_outcomes_checks_in_and_out_too(site, ingest):
    """Such as Celery's own cleaning; here the SDK's own monitoring does it."""
    PeriodicTask.objects.all().delete()
    due("cleaning", "celery.backend_cleanup", "celery", "[]")
    with site.beat("beat-cleaning", site.environment()):
        wait_until(
            lambda: len(ingest.check_ins("cleaning")) >= 2,
            PATIENCE,
            lambda: f"check-ins of cleaning: {ingest.of('check_in')}",
        )
    (opened, begun), (closed, ended) = ingest.check_ins("cleaning")
    assert (begun, ended, opened) == ("in_progress", "ok", closed)


def test_a_run_that_died_with_its_worker_is_told_by_another(site, ingest):
    """Whoever rescues it sends the event, and closes the check-in of its slot."""
    key = uuid4().hex
    with site.worker("doomed") as doomed:
        doomed.wait_for_output(" ready.")
        outcome = tasks.record_late.using(queue="doomed").enqueue(key)
        context = {"sentry-monitor": "doomed", "sentry-check-in": "c" * 32}
        Outcome.objects.filter(pk=outcome.pk).update(trace_context=json.dumps(context))
        wait_until(lambda: trail.left(key), PATIENCE, "the helper's run")
        doomed.kill()
    outcome = final(outcome)
    event = only_event(ingest, outcome)
    assert (outcome.reason, event.tags["task"]) == ("worker_lost", outcome.task_name)
    assert event.payload["fingerprint"] == ["tasks_app", "worker_lost", outcome.task_name]
    wait_until(lambda: ingest.check_ins("doomed"), PATIENCE, "the check-in")
    assert ingest.check_ins("doomed") == [("c" * 32, "error")]


# Asking for the database has pytest-django set it up, for the other tests too.
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("when", "told"),
    [
        (crontab(minute="*/5", hour="8-18"), {"type": "crontab", "value": "*/5 8-18 * * *"}),
        (schedule(timedelta(minutes=90)), {"type": "interval", "value": 90, "unit": "minute"}),
        (schedule(timedelta(days=14)), {"type": "interval", "value": 2, "unit": "week"}),
        (schedule(timedelta(seconds=30)), None),
        (schedule(timedelta(seconds=90)), None),
    ],
)
def test_a_monitor_learns_when_its_schedule_is_due(when, told):
    """What Sentry has no words for is left to who made the monitor."""
    config = monitor_config(Slot("name", when, "Europe/Oslo", "id", is_open=False))
    assert config == (told and {"schedule": told, "timezone": "Europe/Oslo"})
