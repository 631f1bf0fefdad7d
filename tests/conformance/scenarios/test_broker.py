"""The broker is a doorbell: lost, doubled and forged messages cost time, never correctness."""

from __future__ import annotations

import pytest

from tests.installation import PATIENCE
from tests.project import app
from tests.servers.session import chosen_broker, session
from tests.testapp import tasks
from tests.waiting import wait_until


@pytest.fixture
def broker():
    """The run's broker, where it is a server of its own."""
    if chosen_broker() == "embedded":
        pytest.skip("the embedded broker is no server")
    return session.server(chosen_broker())


def test_doubled_messages_run_the_task_once(key, effects, settled, installation):
    """However often the bell rings for one row, it runs once."""
    outcome = tasks.record.using(queue=key).enqueue(key)
    for _ in range(5):
        app.send_task(tasks.record.name, task_id=str(outcome.pk), queue=key)
    with installation.start_worker(f"doubled-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
        witness = tasks.record.using(queue=key).enqueue(key, "witness")
        assert settled(witness).state == "succeeded"
    assert effects() == ["", "witness"]
    assert outcome.attempt == 1


@pytest.mark.usefixtures("worker")
def test_a_message_with_another_name_than_its_row_runs_nothing(key, effects, settled):
    """The row decides what runs: a swapped name is dropped."""
    outcome = tasks.record.using(run_after=2).enqueue(key, "real")
    app.send_task(tasks.discard.name, args=(key,), task_id=str(outcome.pk))
    assert settled(outcome).state == "succeeded"
    assert effects() == ["real"]


def test_a_broker_that_lost_everything_is_told_again(key, effects, settled, broker, installation):
    """A row whose message is gone is announced again, long before it would come due."""
    with installation.start_worker(f"before-{key}", queues=[f"other-{key}"]):
        outcome = tasks.record.using(queue=key).enqueue(key)
        wait_until(lambda: announced(outcome), PATIENCE, "the first announcement")
    broker.restart(lose_data=True)
    with installation.start_worker(f"after-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
    assert effects() == [""]


def test_a_worker_survives_the_restart_of_its_broker(key, effects, worker, broker, settled):
    """A worker whose broker comes back empty goes on by itself."""
    broker.restart(lose_data=True)
    outcome = settled(tasks.record.enqueue(key))
    assert outcome.state == "succeeded"
    assert effects() == [""]


def test_enqueueing_does_not_wait_for_a_broker_that_is_down(key, settled, worker, broker):
    """The broker's state is no business of the caller; the work is done when it is back."""
    broker.pause()
    try:
        outcome = tasks.record.enqueue(key)
        assert outcome.created
    finally:
        broker.resume()
    assert settled(outcome).state == "succeeded"


def announced(outcome):
    """Return how often an outcome was announced."""
    outcome.refresh()
    return outcome.announced
