"""
Which ends of a run are events, and how each of them is told.

Runs happen in this process, step by step; the SDK sends what it makes of them to a real server.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sentry_sdk
from billiard.exceptions import SoftTimeLimitExceeded
from celery import exceptions as celery_exceptions
from sentry_sdk.integrations.logging import LoggingIntegration

from tasks_app import Discard, Retry, Snooze, context, outcomes, rescue, signals
from tasks_app.exceptions import TaskCancelled
from tasks_app.models import Outcome
from tasks_app.states import Reason
from tests import by_hand
from tests.integration.command_line import claimed
from tests.servers.ingest import Ingest, Item
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)


class Heard:
    """A server and the client of this process that tells it."""

    def __init__(self, ingest: Ingest, client: sentry_sdk.Client) -> None:
        self.ingest = ingest
        self.client = client

    def events(self) -> list[Item]:
        """Return every event that was sent until now."""
        self.client.flush(timeout=30)
        return self.ingest.of("event")


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What Sentry's server hears while a test runs."""
    with Ingest() as ingest, sentry_sdk.isolation_scope(), sentry_sdk.new_scope() as scope:
        logs = LoggingIntegration()
        client = sentry_sdk.Client(
            dsn=ingest.dsn(), default_integrations=False, integrations=[logs]
        )
        scope.set_client(client)
        yield Heard(ingest, client)
        client.close()


def ended(outcome: Outcome, error: BaseException) -> Outcome:
    """Run an outcome whose helper raises an error."""

    def helper(*args: Any, **kwargs: Any) -> None:
        raise error

    try:
        by_hand.answer(outcome, helper)
    except BaseException:  # noqa: BLE001 - a worker hears of every end
        outcome.refresh()
    return outcome


@pytest.mark.parametrize(
    ("error", "types"),
    [
        (ValueError("no"), ["ValueError"]),
        (Discard("no"), ["Discard"]),
        (Retry(after=9), ["Retry"]),
        (celery_exceptions.Ignore(), []),
        (celery_exceptions.Reject(), []),
        (Snooze(after=9), []),
        (TaskCancelled("stop"), []),
        (SystemExit(-241), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_last_word_of_a_run_is_an_event_if_it_is_a_failure(heard, error, types):
    """What ends a run on purpose, for now or for good, is none."""
    outcome = tasks.fail_later.enqueue("key")
    ended(outcome, error)
    sent = heard.events()
    assert [event.payload["exception"]["values"][0]["type"] for event in sent] == types
    assert [event.payload["event_id"] for event in sent] == [
        attempt.sentry_event_id for attempt in outcome.attempts.all() if attempt.sentry_event_id
    ]


def test_what_a_plain_task_expects_is_no_event(heard, monkeypatch):
    """`throws` of Celery's tasks keeps its meaning."""
    monkeypatch.setattr(tasks.fail_later, "throws", (LookupError,), raising=False)
    ended(tasks.fail_later.enqueue("key"), KeyError("expected"))
    assert heard.events() == []


@pytest.mark.parametrize("wanted", [False, True])
def test_each_retried_error_is_an_event_where_that_is_wanted(heard, settings, wanted):
    """`SENTRY_RETRIES` sends them too, as warnings."""
    settings.TASKS_APP = {"SENTRY_RETRIES": wanted}
    outcome = ended(tasks.succeed_at.enqueue("key", 9), ValueError("not yet"))
    assert [event.payload["level"] for event in heard.events()] == ["warning"] * wanted
    assert bool(outcome.attempts.get().sentry_event_id) == wanted


@pytest.mark.parametrize("wanted", [False, True])
def test_a_lost_run_that_goes_on_is_an_event_where_that_is_wanted(heard, settings, wanted):
    """Another process takes it back; the attempt names the event."""
    settings.TASKS_APP = {"SENTRY_RETRIES": wanted}
    outcome = claimed(tasks.add.enqueue(1, 2))
    by_hand.let_lease_run_out(outcome)
    rescue.run_once()
    sent = heard.events()
    group = ["tasks_app", "worker_lost", outcome.task_name]
    assert [event.payload["fingerprint"] for event in sent] == [group] * wanted
    assert outcome.attempts.get().sentry_event_id == (sent[0].payload["event_id"] if wanted else "")


def test_a_soft_time_limit_is_grouped_by_task(heard):
    """Where in its helper a task was interrupted is chance."""
    ended(tasks.fail_later.enqueue("key"), SoftTimeLimitExceeded())
    (event,) = heard.events()
    assert event.payload["fingerprint"] == ["tasks_app", "time_limit", tasks.fail_later.name]


def test_a_task_that_nobody_knows_is_told_of_though_it_never_ran(heard):
    """There is no attempt to name the event."""
    outcome = tasks.add.enqueue(1, 2)
    assert outcomes.give_up(outcome.pk, Reason.UNREGISTERED, "No worker knows it.")
    outcome.refresh()
    signals.failed.send_robust(Outcome, outcome=outcome, error=None)
    (event,) = heard.events()
    assert event.payload["exception"]["values"][0]["value"] == "No worker knows it."
    assert event.payload["fingerprint"] == ["tasks_app", "unregistered", outcome.task_name]


def test_what_somebody_discarded_by_hand_is_no_error(heard):
    """Nobody needs to be told of his own decision."""
    assert tasks.add.enqueue(1, 2).discard(by="somebody")
    assert heard.events() == []


def test_a_failure_that_settles_as_a_loss_is_told_of_once(heard, settings, monkeypatch):
    """The helper's connection was lost for the last time: nobody knew that it would be the last."""
    settings.TASKS_APP = {"MAX_CRASHES": 1}
    monkeypatch.setattr("tasks_app.worker._is_loss", lambda run, error: True)
    outcome = ended(tasks.fail_later.enqueue("key"), ValueError("gone"))
    (event,) = heard.events()
    assert (outcome.state, outcome.reason) == ("failed", "worker_lost")
    assert outcome.attempts.get().sentry_event_id == event.payload["event_id"]


def test_an_event_continues_the_trace_of_its_row(heard):
    """Also where another process tells of it."""
    trace = "a" * 32
    with sentry_sdk.isolation_scope() as scope:
        scope.generate_propagation_context({"sentry-trace": f"{trace}-{'b' * 16}-1"})
        calls = [tasks.fail_later.enqueue("key") for _ in range(2)]
    ended(calls[0], ValueError("no"))
    lost = claimed(calls[1])
    Outcome.objects.filter(pk=lost.pk).update(crashes=2)
    by_hand.let_lease_run_out(lost)
    rescue.run_once()
    assert [event.trace_id for event in heard.events()] == [trace] * 2


def test_a_run_leaves_the_scope_of_its_surroundings_as_it_was(heard):
    """An eager call inside a request does not lend it its tags."""
    ended(tasks.fail_later.enqueue("key"), ValueError("no"))
    with context.working_for("the-request", None):
        sentry_sdk.capture_message("after it")
    run, after = heard.events()
    assert run.tags["task"] == tasks.fail_later.name
    assert after.tags == {"request_id": "the-request"}


def test_a_link_is_a_path_where_the_sites_address_is_not_known(heard):
    """The address of the admin is a setting; its path is not."""
    outcome = ended(tasks.fail_later.enqueue("key"), ValueError("no"))
    (event,) = heard.events()
    path = f"/admin/tasks_app/outcome/{outcome.pk}/change/"
    assert event.payload["contexts"]["outcome"]["url"] == path


def test_breadcrumbs_tell_of_lost_attempts_too(heard):
    """Whatever went wrong before is seen beside the last error."""
    outcome = claimed(tasks.fail_later.enqueue("key"))
    by_hand.let_lease_run_out(outcome)
    rescue.run_once()
    by_hand.come_due(outcome, timedelta(0))
    outcomes.run_now(outcome.pk)
    ended(outcome, ValueError("no"))
    (event,) = heard.events()
    (crumb,) = (
        crumb
        for crumb in event.payload["breadcrumbs"]["values"]
        if crumb["category"] == "tasks_app.attempt"
    )
    assert crumb["message"].startswith("attempt 1 lost: The worker was lost")
