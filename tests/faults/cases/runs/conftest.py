"""What the cases of a run share: workers that can be caught anywhere, and outages."""

from tests.faults.cases.runs.damage import (
    broker_server,
    case,
    database_server,
    patient,
    patient_worker,
    trapped,
    trapped_worker,
)

__all__ = [
    "broker_server",
    "case",
    "database_server",
    "patient",
    "patient_worker",
    "trapped",
    "trapped_worker",
]
