"""Lost processes: a killed child, a killed worker, a worker that is asked to end."""

from __future__ import annotations

import signal

import pytest
from django.db import OperationalError, connection

from tasks_app import worker
from tasks_app.models import Attempt, Outcome
from tests import trail
from tests.installation import PATIENCE, in_state
from tests.servers.session import chosen_database
from tests.testapp import tasks
from tests.testapp.models import Effect
from tests.waiting import wait_until


@pytest.fixture
def prefork(installation):
    """Skip where a helper that kills its process kills the worker itself."""
    if installation.pool != "prefork":
        pytest.skip("only the prefork pool has children that can be lost alone")


@pytest.mark.usefixtures("prefork", "worker")
def test_a_killed_child_costs_one_crash_and_no_effect(key, effects, settled):
    """A run whose process dies is rescued and finished, with one effect."""
    outcome = settled(tasks.die.enqueue(key, 1))
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert effects() == [""]
    assert len(trail.left(key)) == 2


@pytest.mark.usefixtures("prefork")
def test_of_what_shares_a_message_only_what_ran_has_crashed(key, installation):
    """A process that dies within a peal costs its running outcome a crash, and the rest nothing."""
    deadly = {10, 11, 40, 61}
    calls = [(f"{key}-{number}", int(number in deadly)) for number in range(80)]
    with installation.start_worker(f"peals-{key}", queues=[key]):
        ids = tasks.die.using(queue=key).enqueue_many(calls)
        rows = Outcome.objects.filter(pk__in=ids)
        wait_until(
            lambda: rows.filter(state="succeeded").count() == len(calls), PATIENCE, "the ends"
        )
    crashes = list(rows.order_by("pk").values_list("crashes", flat=True))
    assert {number for number, count in enumerate(crashes) if count} == deadly
    assert set(crashes) == {0, 1}
    assert Effect.objects.filter(key__startswith=f"{key}-").count() == len(calls)
    if chosen_database() == "postgres":
        # One statement has one time: what it ended, and what it claimed.
        ends = rows.values("finished_at")
        shared = Attempt.objects.filter(outcome__in=ids, started_at__in=ends).count()
        assert shared > len(calls) // 4


@pytest.mark.usefixtures("worker")
def test_a_connection_that_is_lost_in_a_helper_costs_no_attempt(key, effects, settled):
    """A database that ends a connection and takes new ones at once fails no outcome."""
    if chosen_database() == "sqlite":
        pytest.skip("a file ends no connection")
    outcome = settled(tasks.lose_connection.enqueue(key))
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert effects() == [""]


def test_a_claim_that_could_not_connect_is_made_once_more():
    """A connection that never came about is as good as a dead one, to every driver."""
    answers = [OperationalError("no route"), "claimed"]

    def claim():
        answer = answers.pop(0)
        if isinstance(answer, OperationalError):
            raise answer
        return answer

    connection.close()
    assert worker._reconnecting(claim) == "claimed"


@pytest.mark.usefixtures("prefork", "worker")
def test_the_third_crash_is_the_last(key, effects, settled):
    """An outcome that keeps killing workers fails instead of looping."""
    outcome = settled(tasks.die.enqueue(key, 100))
    assert (outcome.state, outcome.reason, outcome.crashes) == ("failed", "worker_lost", 3)
    assert len(trail.left(key)) == 3
    assert effects() == []
    assert tasks.add.enqueue(1, 2).get(timeout=PATIENCE) == 3


def test_another_worker_finishes_what_a_killed_one_had(key, effects, settled, installation):
    """A worker that dies with all its processes loses nothing and doubles nothing."""
    outcome = tasks.record_late.using(queue=key).enqueue(key)
    with installation.start_worker(f"doomed-{key}", queues=[key]) as doomed:
        in_state(outcome, "running")
        doomed.kill()
    trail.open_gate(key)
    with installation.start_worker(f"heir-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
    assert effects() == [""]
    assert outcome.crashes == 1


def test_a_worker_that_is_asked_to_end_gives_its_runs_back(key, effects, settled, installation):
    """A stop costs no attempt: the next worker starts the same one again."""
    outcome = tasks.record_late.using(queue=key).enqueue(key)
    with installation.start_worker(f"leaving-{key}", queues=[key]) as leaving:
        in_state(outcome, "running")
        leaving.terminate(timeout=PATIENCE, number=signal.SIGTERM)
        assert leaving.left_behind == []
    outcome.refresh()
    assert (outcome.state, outcome.attempt, outcome.crashes) == ("pending", 0, 0)
    trail.open_gate(key)
    with installation.start_worker(f"heir-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
    assert outcome.attempt == 1
    assert effects() == [""]


def test_a_run_that_ends_in_time_is_waited_for(key, effects, settled, installation):
    """A worker that is asked to end lets a helper finish that is about to."""
    outcome = tasks.record_late.using(queue=key).enqueue(key)
    with installation.start_worker(f"finishing-{key}", queues=[key]) as worker:
        in_state(outcome, "running")
        worker.send(signal.SIGTERM)
        trail.open_gate(key)
        worker.process.wait(PATIENCE)
    outcome.refresh()
    assert (outcome.state, outcome.attempt) == ("succeeded", 1)
    assert effects() == [""]
