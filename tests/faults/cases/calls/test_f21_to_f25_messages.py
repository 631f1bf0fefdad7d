"""Faults of messages: lost in a dying hand, doubled, too early, about nothing."""

from __future__ import annotations

import signal

import pytest
from django.db import connection, transaction

from tests import trail
from tests.faults.cases.calls.conftest import BROKER_RECOVERY, messages, ring, wait_for_messages
from tests.installation import PATIENCE
from tests.integration.command_line import ago, rewritten
from tests.integration.command_line import tasks as command
from tests.servers.session import chosen_broker
from tests.testapp import tasks
from tests.waiting import wait_until


@pytest.mark.usefixtures("alone")
def test_f21_a_message_that_dies_with_its_worker_is_sent_again(case):
    """What a killed worker had taken from the broker and noted nowhere costs seconds."""
    if chosen_broker() == "rabbitmq":
        pytest.skip("RabbitMQ keeps a message until it is acknowledged")
    outcome = case.enqueue()
    with case.relay():
        wait_for_messages(case.key, 1)
        with case.worker("dying", app="tests.faults.dying") as dying:
            assert dying.process.wait(PATIENCE) == -signal.SIGKILL
        assert "dies with a message in its hand" in dying.output
        assert messages(case.key) == 0
        outcome.refresh()
        assert outcome.state == "pending"
        with case.recovers_within(BROKER_RECOVERY), case.worker("heir"):
            case.succeeds(outcome)
    assert case.effects == [""]


@pytest.mark.usefixtures("alone")
def test_f22_five_messages_at_once_start_one_run(case):
    """One claim wins; the others find the outcome running and are dropped."""
    outcome = case.enqueue(task=tasks.record_late)
    ring(*[outcome] * 5)
    with case.worker(concurrency=4) as worker:
        wait_until(
            lambda: worker.output.count("the outcome is running") == 4,
            PATIENCE,
            lambda: f"four dropped messages\n{worker.tail()}",
        )
        trail.open_gate(case.key)
        case.succeeds(outcome)
    assert case.effects == [""]
    assert (outcome.attempt, len(trail.left(case.key))) == (1, 1)


@pytest.mark.usefixtures("worker")
def test_f24_a_message_before_its_row_is_visible_does_no_harm(key, case, worker):
    """It is dropped, and the row runs when it is there."""
    with transaction.atomic():
        outcome = tasks.record.enqueue(key)
        ring(outcome)
        # Elsewhere the worker waits for the one who writes, and then finds the row.
        if connection.vendor == "postgresql":
            worker.wait_for_output(f"{outcome.pk}: no such outcome")
    case.succeeds(outcome)
    assert case.effects == [""]


@pytest.mark.usefixtures("worker")
def test_f25_a_message_for_a_pruned_outcome_is_dropped(key, case, worker):
    """It is acknowledged, told, and runs nothing; the worker goes on."""
    outcome = tasks.record.enqueue(key)
    case.succeeds(outcome)
    rewritten(outcome, finished_at=ago(days=400))
    assert command("prune").code == 0
    ring(outcome)
    worker.wait_for_output(f"{outcome.pk}: no such outcome")
    case.succeeds(tasks.record.enqueue(key, "witness"))
    assert case.effects == ["", "witness"]
    assert messages(outcome.queue) == 0
