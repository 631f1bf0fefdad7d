"""Faults of the relay: it dies between its statements, has company, or looks too early."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from django.db import connection, transaction

from tasks_app.models import Outcome
from tests import by_hand
from tests.faults.cases.calls.conftest import BROKER_RECOVERY, messages, wait_for_messages
from tests.installation import PATIENCE
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("alone")

#: Wait before the second announcement of a row.
FIRST_WAIT = timedelta(seconds=30)

#: What relays take of the rows at a time in these cases.
SOME = 20


def killed(relay, point):
    """Wait until a relay has died at a crash point."""
    assert relay.process.wait(PATIENCE) == -signal.SIGKILL, relay.tail()
    assert f"crash point {point}: kill" in relay.output


def test_f08_a_relay_killed_before_it_rings_costs_seconds(case):
    """Rows that it took and rang no bell for are rung for by the next relay."""
    outcome = case.enqueue()
    with case.relay("dying", TASKS_APP_CRASH="relay.after_take:kill") as dying, case.worker():
        killed(dying, "relay.after_take")
        outcome.refresh()
        assert (outcome.state, outcome.announced) == ("pending", 1)
        with case.recovers_within(BROKER_RECOVERY), case.relay():
            case.succeeds(outcome)
    assert case.effects == [""]


def test_f09_a_relay_killed_after_it_rang_costs_a_second_bell(case):
    """Two messages for one row have one effect."""
    outcome = case.enqueue()
    with case.relay("dying", TASKS_APP_CRASH="relay.after_publish:kill") as dying:
        killed(dying, "relay.after_publish")
    assert messages(case.key) == 1
    by_hand.come_due(outcome, FIRST_WAIT)
    with case.relay():
        wait_for_messages(case.key, 2)
        case.enqueue("witness")
        with case.worker():
            case.succeeds()
    assert case.effects == ["", "witness"]
    outcome.refresh()
    assert outcome.attempt == 1


def test_f10_relays_share_the_rows_and_one_that_hangs_keeps_none(case):
    """Three relays take different rows; those that two of them hang with, the third rings for."""
    notes: list[str] = []
    ours = Outcome.objects.filter(queue=case.key)

    def enqueue_some():
        notes.extend([f"{len(notes) + number:03}" for number in range(SOME)])
        tasks.record.using(queue=case.key).enqueue_many(
            [(case.key, note) for note in notes[-SOME:]]
        )

    def all_are_taken():
        return not ours.filter(state="pending", announced=0).exists()

    def both_hang():
        stopped = "crash point relay.after_take: stop"
        return stopped in first.output and stopped in second.output

    stopping = {"TASKS_APP_CRASH": "relay.after_take:stop"}
    with (
        case.relay("first", **stopping) as first,
        case.relay("second", **stopping) as second,
    ):
        while not both_hang():
            enqueue_some()
            wait_until(
                lambda: all_are_taken() or both_hang(), PATIENCE, "somebody who takes the rows"
            )
        assert max(ours.values_list("announced", flat=True)) == 1
        with case.relay("third"), case.worker():
            enqueue_some()
            case.succeeds()
            first.resume()
            second.resume()
            case.enqueue("witness")
            case.succeeds()
            wait_until(lambda: messages(case.key) == 0, PATIENCE, "the end of all messages")
    assert case.effects == [*notes, "witness"]


def test_f11_a_row_that_commits_later_than_its_id_says_is_not_passed_over(case):
    """Commits do not come in the order of ids; a relay that went by them would miss this row."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer: rows are committed in the order of their ids")
    with case.worker(relay=True):
        with transaction.atomic():
            low = case.enqueue("low")
            high = by_hand.elsewhere(lambda: case.enqueue("high"))
            assert low.pk < high.pk
            by_hand.elsewhere(lambda: case.succeeds(high))
        case.succeeds(low)
    assert case.effects == ["high", "low"]
