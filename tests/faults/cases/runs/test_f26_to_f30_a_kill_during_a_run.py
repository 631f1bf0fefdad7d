"""A process is killed between two statements of a run: once the child, once the whole worker."""

from __future__ import annotations

import pytest

from tests.faults.cases.runs.damage import RESCUED, kill
from tests.project import app
from tests.testapp import tasks

#: Where the process dies, and whether the run's end was committed by then.
PLACES = {
    "f26 after the claim": ("claim.after", False),
    "f27 in the body": ("run.before_helper", False),
    "f28 after the effect": ("run.after_helper", False),
    "f29 before the commit": ("success.before_commit", False),
    "f30 after the commit": ("success.after_commit", True),
}


@pytest.mark.parametrize(("place", "is_committed"), PLACES.values(), ids=PLACES)
def test_f26_to_f30_a_killed_child_costs_a_crash_at_most(place, is_committed, case, trapped):
    """The worker tells of its child; what was not committed runs again. One effect."""
    trapped.arm(place)
    outcome = trapped.using(tasks.record).enqueue(case.key)
    victim = trapped.caught(place)
    with case.recovers(within=RESCUED):
        kill(victim)
        case.settled(outcome)
    assert (outcome.state, outcome.crashes) == ("succeeded", int(not is_committed))
    assert case.effects() == [""]
    assert case.ends(outcome) == (["succeeded"] if is_committed else ["lost", "succeeded"])


@pytest.mark.parametrize("place", ["claim.after", "success.before_commit"])
def test_f26_f29_a_killed_worker_costs_a_crash(place, case, trapped):
    """Nobody is left to tell of the crash: the lease runs out, and another worker goes on."""
    trapped.arm(place)
    outcome = trapped.using(tasks.record).enqueue(case.key)
    trapped.caught(place)
    # The time that another process takes to start is the machine's, not the promise's.
    with trapped.start(), case.recovers(within=RESCUED):
        trapped.process.kill()
        case.settled(outcome)
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert case.effects() == [""]
    assert case.ends(outcome) == ["lost", "succeeded"]


def test_f30_a_message_for_a_run_that_was_committed_runs_nothing(case, trapped):
    """A broker that has not heard of the end delivers again; the row says that it is over."""
    trapped.arm("success.after_commit")
    outcome = trapped.using(tasks.record).enqueue(case.key)
    kill(trapped.caught("success.after_commit"))
    fence = case.settled(outcome).fence
    app.send_task(tasks.record.name, task_id=str(outcome.pk), queue=trapped.queue)
    assert trapped.works()
    outcome.refresh()
    assert (outcome.state, outcome.fence, len(case.left())) == ("succeeded", fence, 1)
    assert case.effects() == [""]
