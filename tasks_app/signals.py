"""
What happened to an outcome, told to whoever wants to know.

The path sends these; logs, integrations and projects listen. Receivers run in the process that
did the act. `enqueued` is sent inside the caller's transaction, `settling` before the transaction
that it announces; every other signal is sent after the commit that made it true. Receivers are
called robustly: none can change an outcome's fate.

Arguments common to all but `dropped`: `outcome` (`tasks_app.models.Outcome`, as just written).
"""

from django.dispatch import Signal

enqueued = Signal()
announced = Signal()
started = Signal()
#: Also `progress` (`tasks_app.models.Progress`).
progressed = Signal()
#: A run ended with an exception and its attempt is about to be written: also `run`
#: (`tasks_app.runs.Run`), `error` and `is_final` (bool: no other attempt follows). Sent before the
#: transaction that settles it: a receiver may set `run.sentry_event_id`.
settling = Signal()
#: Also `delay` (timedelta) and `error` (exception or None).
retrying = Signal()
succeeded = Signal()
#: Also `error` (exception or None).
failed = Signal()
rescued = Signal()
cancelled = Signal()
expired = Signal()
#: A broker message that led to no run: `task_name`, `outcome_id` (text), `why`. Where it was
#: refused before any row was looked at, `is_refused` is true, there is no sender, and the first
#: two may be empty.
dropped = Signal()
#: A run whose lease somebody else ended: `lease`. Its writes were rolled back.
lease_lost = Signal()
