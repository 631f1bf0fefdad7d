"""The answer to the COMMIT that ends a run is lost: done or not, the worker cannot know."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import ARGUMENTS, LONG_LEASE, RESCUED
from tests.testapp.tasks import add


@pytest.fixture
def worker(case, database_link, installation):
    """A worker that reaches its database through a link that can misbehave."""
    with installation.start_worker(
        f"f31-{case.key}",
        queues=[case.key],
        settings=LONG_LEASE,
        environment=database_link.environment,
        arguments=ARGUMENTS,
    ) as process:
        yield process


@pytest.mark.parametrize(
    ("is_done", "ends"),
    [(True, ["succeeded"]), (False, ["lost", "succeeded"])],
    ids=["done", "not done"],
)
def test_f31_a_commit_without_an_answer_is_looked_up(is_done, ends, case, database_link, worker):
    """A run whose COMMIT got there is over; one whose COMMIT did not runs again. One effect."""
    outcome = faults.record_late.using(queue=case.key).enqueue(case.key)
    case.entered()
    trap = database_link.proxy.set_trap(b"COMMIT", after=case.key.encode(), arrives=is_done)
    with case.recovers(within=RESCUED):
        case.open_gate()
        case.settled(outcome)
    worker.wait_for_output(f"[{outcome.pk}] succeeded in")
    assert trap.caught is not None
    assert (outcome.state, case.ends(outcome)) == ("succeeded", ends)
    assert len(case.left()) == len(ends)
    assert case.effects() == [""]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere COMMIT is a request")
def test_f31_a_settlement_that_is_its_own_commit_is_looked_up(case, database_link, worker):
    """What a helper without a statement leaves is one request: that got there, or it did not."""
    for is_done, ends in ((True, ["succeeded"]), (False, ["lost", "succeeded"])):
        outcome = add.using(queue=case.key, run_after=3600).enqueue(1, 2)
        claim = outcome.pk.hex.encode()
        trap = database_link.proxy.set_trap(b"WITH hit", after=claim, arrives=is_done)
        with case.recovers(within=RESCUED):
            outcome.run_now()
            case.settled(outcome)
        assert trap.caught is not None
        assert (outcome.state, outcome.result, case.ends(outcome)) == ("succeeded", 3, ends)
    assert worker.running


def test_f31_a_link_that_breaks_in_the_body_is_no_failure_of_the_helper(
    case, database_link, worker
):
    """A helper that allows one attempt runs again, although the database was back at once."""
    outcome = faults.record_late.using(queue=case.key).enqueue(case.key)
    case.entered()
    database_link.proxy.cut()
    with case.recovers(within=RESCUED):
        case.open_gate()
        case.settled(outcome)
    assert (outcome.state, case.ends(outcome)) == ("succeeded", ["lost", "succeeded"])
    assert case.effects() == [""]
    assert worker.running
