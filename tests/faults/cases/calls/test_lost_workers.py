"""How long it takes until the work of a killed worker is done by another one."""

from __future__ import annotations

import pytest

from tests import trail
from tests.installation import SETTINGS, in_state
from tests.testapp import tasks

pytestmark = pytest.mark.usefixtures("alone")

#: The shortest that contract and documentation speak of.
SHORTEST = {"LEASE": 1, "RESCUE_INTERVAL": 1}


@pytest.mark.parametrize(
    ("settings", "limit"),
    [(SETTINGS, SETTINGS["LEASE"] + SETTINGS["RESCUE_INTERVAL"] + 5), (SHORTEST, 5)],
    ids=["short", "shortest"],
)
def test_the_work_of_a_killed_worker_is_done_in_time(settings, limit, case):
    """Within lease, rescue interval and a few seconds another worker has run it to its end."""
    outcome = case.enqueue(task=tasks.record_late)
    with case.worker("doomed", relay=True, settings=settings) as doomed:
        in_state(outcome, "running")
        with case.worker("heir", relay=True, settings=settings):
            doomed.kill()
            with case.recovers_within(limit):
                trail.open_gate(case.key)
                case.succeeds(outcome)
    assert case.effects == [""]
    assert (outcome.crashes, len(trail.left(case.key))) == (1, 2)
