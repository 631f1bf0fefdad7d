"""Celery's canvas over outcomes: chains, groups, chords and callbacks keep their meaning."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from tests import trail
from tests.installation import PATIENCE
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")


def test_a_chain_hands_results_on():
    """Each task of a chain gets the result of the one before."""
    result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4)).delay()
    assert result.get(timeout=PATIENCE) == 10


def test_a_chain_stops_at_a_failure(key, effects):
    """Nothing behind a failed task of a chain runs."""
    result = chain(tasks.need_gate.si(key), tasks.record.si(key, "after")).delay()
    with pytest.raises(Exception, match="the gate is closed"):
        result.parent.get(timeout=PATIENCE)
    assert effects() == []


def test_a_group_collects_results():
    """A group's results come in the order of its members."""
    result = group(tasks.add.s(number, number) for number in range(4)).apply_async()
    assert result.get(timeout=PATIENCE) == [0, 2, 4, 6]


def test_a_chord_runs_its_body_once_over_all_results(key, effects):
    """The body runs after all members and gets their results in order."""
    header = [tasks.add.s(number, 1) for number in range(5)]
    assert chord(header)(tasks.total.s()).get(timeout=PATIENCE) == 15


def test_a_chord_survives_retries_of_its_members(key, effects):
    """A member that succeeds at a later attempt still counts once."""
    header = [tasks.succeed_at.s(key, 2), tasks.add.s(2, 3)]
    assert chord(header)(tasks.total.s()).get(timeout=PATIENCE) == 7
    assert effects() == ["attempt 2"]


def test_a_link_runs_after_a_success(key, effects):
    """A callback runs once, after the task it is linked to."""
    tasks.add.apply_async((1, 2), link=tasks.record.si(key, "linked"))
    wait_until(effects, PATIENCE, "the linked effect")
    assert effects() == ["linked"]


def test_a_link_error_runs_after_a_failure(key, effects):
    """An errback runs once, after the last attempt has failed."""
    tasks.succeed_at.apply_async((key, 9), link_error=tasks.record.si(key, "failed"))
    wait_until(effects, PATIENCE, "the errback's effect")
    assert effects() == ["failed"]
    assert [line["attempt"] for line in trail.left(key)][:3] == [1, 2, 3]


def test_a_chain_of_a_group_and_a_task_is_a_chord():
    """Celery's upgrade of a group in a chain works as well."""
    canvas = chain(group(tasks.add.s(1, 1), tasks.add.s(2, 2)), tasks.total.s())
    assert canvas.delay().get(timeout=PATIENCE) == 6
