"""
The tables. Each module holds those of one concept; every name is offered here.

An `Outcome` is one row per call, an `Attempt` one row per ended run. State is written by
`outcomes.py` alone.
"""

from tasks_app.models.attempt import Attempt
from tasks_app.models.bulk import BulkAction
from tasks_app.models.causes import Cause
from tasks_app.models.chord import Chord
from tasks_app.models.keys import IdempotencyKey, Repeat
from tasks_app.models.outcome import Acts, Outcome, OutcomeQuerySet, Progress, acts, outcome_uuid
from tasks_app.models.periodic import Leadership, Slot, Timer
from tasks_app.models.queues import PausedQueue
from tasks_app.models.subjects import Subject
from tasks_app.models.watching import Deploy, Heartbeat, Rollup, Stock, WebRequest

__all__ = [
    "Acts",
    "Attempt",
    "BulkAction",
    "Cause",
    "Chord",
    "Deploy",
    "Heartbeat",
    "IdempotencyKey",
    "Leadership",
    "Outcome",
    "OutcomeQuerySet",
    "PausedQueue",
    "Progress",
    "Repeat",
    "Rollup",
    "Slot",
    "Stock",
    "Subject",
    "Timer",
    "WebRequest",
    "acts",
    "outcome_uuid",
]
