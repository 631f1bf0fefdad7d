"""The tasks of the test app: plain helpers with different options."""

from __future__ import annotations

from tasks_app import RetryPolicy, task
from tests.testapp import helpers

#: Three attempts in quick succession, without dice.
SOON = RetryPolicy(max_attempts=3, initial=0.1, jitter=False)

add = task(helpers.add)
add_later = task(helpers.add_later)
nap = task(helpers.nap)
fail_later = task(helpers.fail_later, retry=RetryPolicy(max_attempts=1))
total = task(helpers.total)
record = task(helpers.record)
note_ids = task(helpers.note_ids, retry=SOON)
record_once = task(helpers.record, name="tests.record_once", idempotency_key="record:{key}")
record_late = task(helpers.record_late, retry=SOON)
record_briefly = task(helpers.record_late, name="tests.record_briefly", timeout=1)
succeed_at = task(helpers.succeed_at, retry=SOON)
need_gate = task(helpers.need_gate)
speak = task(helpers.speak, retry=RetryPolicy(max_attempts=2, initial=0.1, jitter=False))
ask_for_retry = task(helpers.ask_for_retry, retry=SOON)
ask_for_snooze = task(helpers.ask_for_snooze)
discard = task(helpers.discard, retry=SOON)
watch_for_cancel = task(helpers.watch_for_cancel)
fail_with = task(helpers.fail_with)
give_back = task(helpers.give_back)
know_connection = task(helpers.know_connection)
lose_connection = task(helpers.lose_connection)
die = task(helpers.die)
charge = task(
    helpers.charge,
    name="tests.charge",
    redact=["card_token"],
    idempotency_key="charge:{order_id}:{card_token}",
    retry=RetryPolicy(max_attempts=2, initial=0.1, jitter=False, retry_on=(ValueError,)),
)


call_outside = task(helpers.call_outside, atomic=False, retry=SOON)


@task
def note_descent(key: str, depth: int) -> None:
    """Note the ids, and enqueue the next generation."""
    helpers.note_ids(key=key)
    if depth:
        note_descent.enqueue(key, depth - 1)


@task
def enqueue_child(key: str, *, fail: bool) -> None:
    """Enqueue another task inside the helper, then fail on request."""
    record.enqueue(key, "child")
    if fail:
        raise ValueError("after enqueueing the child")
