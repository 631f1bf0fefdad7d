"""What supervisors send: a request to end, an order to end at once, and both to everybody."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import RESCUED
from tests.installation import PATIENCE


def terminate(worker):
    """Ask the main process to end and wait for it, as systemd's `KillMode=mixed` does."""
    worker.terminate(timeout=PATIENCE, number=signal.SIGTERM)


def terminate_then_kill(worker):
    """Ask, lose patience within the soft shutdown, and kill everything."""
    worker.send(signal.SIGTERM)
    worker.wait_for_output("Warm shutdown")
    worker.kill()


def quit_at_once(worker):
    """Order a cold shutdown."""
    worker.terminate(timeout=PATIENCE, number=signal.SIGQUIT)


def terminate_everybody(worker):
    """Ask the whole process group, as an init that forwards to all or Ctrl+C does."""
    os.killpg(worker.pid, signal.SIGTERM)
    worker.process.wait(PATIENCE)


#: How a worker is ended, and how many crashes that may cost.
ENDINGS = {
    "SIGTERM": (terminate, {0}),
    "SIGTERM, then SIGKILL": (terminate_then_kill, {1}),
    "SIGQUIT": (quit_at_once, {0, 1}),
    "SIGTERM to the group": (terminate_everybody, {0}),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_f58_whatever_ends_a_worker_its_run_is_finished_by_another(ending, case, trapped):
    """Nothing is lost or done twice, and nobody waits longer than for a rescue."""
    end, crashes = ENDINGS[ending]
    outcome = trapped.using(faults.record_late).enqueue(case.key)
    case.entered()
    # The time that another process takes to start is the machine's, not the promise's.
    with trapped.start():
        end(trapped.running())
        with case.recovers(within=RESCUED):
            case.open_gate()
            case.settled(outcome)
    assert outcome.state == "succeeded"
    assert outcome.crashes in crashes
    assert outcome.attempt == outcome.crashes + 1
    assert case.effects() == [""]
