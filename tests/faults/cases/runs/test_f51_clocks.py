"""A worker whose clock is hours off, beside a database whose clock is right."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import (
    ARGUMENTS,
    RESCUED,
    TIMES,
    require,
    without_sqlite,
)
from tests.installation import PATIENCE, in_state
from tests.testapp import tasks

#: Makes a program see another time than the machine.
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.fixture(params=["+2h", "-2h"])
def shifted(request, case, installation):
    """A worker that lives two hours from now, on a queue of its own."""
    without_sqlite("SQLite has no clock but that of the process: one machine, one time")
    require(LIBRARY, "libfaketime is not installed: no libfaketime.so.1 found")
    with installation.start_worker(
        f"shifted-{case.key}",
        queues=[case.key],
        settings=TIMES,
        arguments=ARGUMENTS,
        environment={
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": request.param,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    ) as process:
        yield process


def test_f51_a_clock_that_is_off_starts_and_rescues_nothing_early(case, shifted, patient):
    """Due times and leases are read from the database's clock, whoever looks at them."""
    told = faults.tell_the_time.using(queue=case.key).enqueue().get(timeout=PATIENCE)
    assert abs(told - time.time()) > 3600
    held = patient.using(faults.record_late).enqueue(case.key)
    in_state(held, "running")
    later = tasks.record.using(queue=case.key, run_after=2).enqueue(f"{case.key}-later")
    dying = tasks.die.using(queue=case.key).enqueue(f"{case.key}-dying", 1)
    with case.recovers(within=RESCUED):
        case.settled(later)
        case.settled(dying)
    assert later.started_at - later.created_at >= timedelta(seconds=2)
    assert (dying.state, dying.crashes) == ("succeeded", 1)
    assert later.finished_at - later.created_at < timedelta(seconds=PATIENCE)
    held.refresh()
    assert (held.state, held.crashes) == ("running", 0)
    case.open_gate()
    assert case.settled(held).attempt == 1
