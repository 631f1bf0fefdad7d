"""
What integrations put around a run and into a row, and that none of it can change a run's fate.

The lists and signals are the ones that `tasks_app.integrations` uses.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tasks_app import Discard, Retry, Snooze, context, runs, signals
from tasks_app.exceptions import TaskCancelled
from tasks_app.models import Outcome
from tests import by_hand
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def seen(monkeypatch):
    """What a surrounding saw, told by two of them, the outer one first."""
    told = []

    def telling(name):
        @contextmanager
        def surround(run):
            told.append(f"{name} in {run.outcome.state}")
            run.read_log = lambda: "a line"
            yield
            told.append(f"{name} out {run.outcome.state}")

        return surround

    monkeypatch.setattr(runs, "surroundings", [telling("outer"), telling("inner")])
    return told


@pytest.fixture
def settling():
    """What the signal before a settlement told."""
    told = []

    def receive(run, error, is_final, **kwargs):
        told.append((type(error), is_final, Outcome.objects.get(pk=run.outcome.pk).state))
        run.sentry_event_id = "e" * 32

    signals.settling.connect(receive)
    yield told
    signals.settling.disconnect(receive)


def ended(error=None):
    """Run a call once, whose helper raises an error; return its outcome and its attempt."""
    outcome = tasks.succeed_at.enqueue("key", 1)

    def helper(*args):
        if error is not None:
            raise error

    try:
        by_hand.answer(outcome, helper)
    except BaseException:  # noqa: BLE001 - a worker hears of every end
        assert error is not None
    outcome.refresh()
    return outcome, outcome.attempts.get()


def test_a_run_happens_inside_its_surroundings(seen):
    """Each is entered after the claim, in order, and left in reverse when the state is known."""
    ended()
    assert seen[:2] == ["outer in running", "inner in running"]
    assert seen[2:] == ["inner out succeeded", "outer out succeeded"]


def test_surroundings_see_how_a_run_failed(seen):
    """A surrounding is left in peace after a failure too, with the new state."""
    ended(ValueError("no"))
    assert seen[2:] == ["inner out pending", "outer out pending"]


@pytest.mark.parametrize("moment", ["made", "entered", "left"])
def test_a_surrounding_that_breaks_changes_nothing(moment, seen, caplog):
    """The run goes on, the others are entered and left, and a log line names the culprit."""

    def broken(run):
        assert moment != "made"
        return breaking()

    @contextmanager
    def breaking():
        assert moment != "entered"
        yield
        assert moment != "left"

    runs.surroundings.insert(1, broken)
    outcome, _ = ended()
    assert outcome.state == "succeeded"
    assert seen[-1] == "outer out succeeded"
    assert "broken" in caplog.text


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (None, "succeeded"),
        (Discard("no"), "failed"),
        (Retry(after=9), "retried"),
        (Snooze(after=9), "snoozed"),
        (TaskCancelled("stop"), "cancelled"),
        (SystemExit(-241), "released"),
    ],
)
def test_every_attempt_keeps_its_log(error, attempt, seen):
    """However a run ends, the last lines of its log are written with its attempt."""
    _, row = ended(error)
    assert (row.state, row.log) == (attempt, "a line")


@pytest.mark.parametrize(("error", "is_final"), [(Retry(after=9), False), (Discard("no"), True)])
def test_an_error_is_told_before_it_is_settled(error, is_final, settling):
    """Who sends it elsewhere knows whether it is the last, and leaves a reference to it."""
    _, row = ended(error)
    assert settling == [(type(error), is_final, "running")]
    assert row.sentry_event_id == "e" * 32


def test_a_success_settles_no_error(settling):
    """What succeeds has nothing to tell there."""
    _, row = ended()
    assert (settling, row.sentry_event_id) == ([], "")


def test_each_row_keeps_where_it_was_enqueued(monkeypatch):
    """Propagation headers are written into the row, of many calls as of one."""
    monkeypatch.setattr(context, "injectors", [lambda headers: headers.update(traceparent="00-1")])
    one = tasks.add.enqueue(1, 2)
    many = tasks.add.enqueue_many([(1, 2), (3, 4)])
    rows = Outcome.objects.filter(pk__in=[one.pk, *many])
    assert [context.trace_headers(row.trace_context) for row in rows] == [
        {"traceparent": "00-1"}
    ] * 3


def test_no_trace_leaves_the_row_as_it_was():
    """Without an integration nothing is written, and nothing is read."""
    assert tasks.add.enqueue(1, 2).trace_context == ""
    assert context.trace_headers("") == {}
