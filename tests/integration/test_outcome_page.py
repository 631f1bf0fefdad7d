"""The page of one outcome tells its whole story, to each reader as much as he may know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app import RetryPolicy, context, outcomes
from tasks_app.admin import reach, relatives
from tasks_app.admin.outcome_page import MOST_RUNS
from tasks_app.admin.retry_plan import retry_plan
from tasks_app.admin.steps import WIDTH, bars
from tasks_app.conf import read_setting
from tasks_app.context import Lineage
from tasks_app.exceptions import ConfigurationError
from tasks_app.leases import Failure, Lease
from tasks_app.models import Attempt, Outcome
from tasks_app.options import TaskOptions
from tasks_app.states import Reason
from tests.testapp import tasks
from tests.visitors import entered

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

#: Session, user and permissions (4), the outcome, its runs, whether its request has caused few
#: (where it did), and the younger part of its family.
STATEMENTS = 8


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.fixture
def viewer() -> Client:
    """A client that may see outcomes, but not their arguments."""
    return entered()


@pytest.fixture
def reader() -> Client:
    """A client that may see arguments and log lines, too."""
    return entered("view_outcome_arguments")


def address(outcome: Outcome) -> str:
    return reverse("admin:tasks_app_outcome_change", args=[outcome.pk])


def page(client: Client, outcome: Outcome) -> str:
    text: str = client.get(address(outcome)).content.decode()
    return text


def claimed(outcome: Outcome) -> Outcome:
    running = outcomes.claim(outcome.id, frozenset({outcome.task_name}), "worker@host/1")
    assert running is not None
    return running


def broken(outcome: Outcome, **told: Any) -> Outcome:
    """Let an outcome fail for good."""
    failure = Failure("ValueError", "it broke", "Traceback:\nValueError: it broke", **told)
    outcomes.fail(Lease.of(claimed(outcome)), Reason.NOT_RETRYABLE, failure)
    outcome.refresh()
    return outcome


def life(outcome: Outcome, *runs: Attempt) -> list[tuple[str, str, float, float]]:
    """Return kind, label, begin and length of each step, in seconds from the enqueueing."""
    return [
        (
            bar.step.kind,
            bar.step.label,
            (bar.step.began - NOW).total_seconds(),
            (bar.step.ended - bar.step.began).total_seconds(),
        )
        for bar in bars(outcome, runs, NOW + seconds(100))
    ]


def run(number: int, state: str, due: float, start: float, end: float) -> Attempt:
    times = {"due_at": due, "started_at": start, "finished_at": end}
    return Attempt(
        number=number, state=state, **{name: NOW + seconds(at) for name, at in times.items()}
    )


def test_the_timeline_has_no_gaps():
    """From the enqueueing through waits, runs, a rescue and a request to cancel, to now."""
    outcome = Outcome(
        created_at=NOW,
        run_at=NOW + seconds(70),
        claimed_at=NOW + seconds(80),
        cancel_requested_at=NOW + seconds(90),
        state="running",
        attempt=2,
    )
    runs = run(1, "retried", 10, 20, 30), run(1, "lost", 40, 40, 60)
    assert life(outcome, *runs) == [
        ("moment", "Enqueued", 0, 0),
        ("ahead", "Until it was due", 0, 10),
        ("wait", "Due, until it began", 10, 10),
        ("run", "Run 1: failed, to be tried again", 20, 10),
        ("ahead", "Until the next try was due", 30, 10),
        ("run", "Run 1: lost with its worker, and rescued", 40, 20),
        ("ahead", "Until the next try was due", 60, 10),
        ("wait", "Due, until it began", 70, 10),
        ("run", "Run 2: in progress", 80, 20),
        ("moment", "Cancellation asked for", 90, 0),
    ]


@pytest.mark.parametrize(
    ("state", "run_at", "finished", "steps"),
    [
        ("pending", 400, None, [("ahead", 0, 400)]),
        ("pending", 40, None, [("ahead", 0, 40), ("wait", 40, 60)]),
        ("cancelled", 40, 50, [("ahead", 0, 40), ("wait", 40, 10), ("moment", 50, 0)]),
        ("cancelled", 400, 50, [("ahead", 0, 50), ("moment", 50, 0)]),
        ("expired", 0, 50, [("wait", 0, 50), ("moment", 50, 0)]),
    ],
)
def test_the_timeline_of_what_never_ran_is_all_waiting(state, run_at, finished, steps):
    """Until it was due, then until now or until somebody ended it."""
    outcome = Outcome(
        created_at=NOW,
        run_at=NOW + seconds(run_at),
        finished_at=finished and NOW + seconds(finished),
        state=state,
    )
    found = [(kind, begin, length) for kind, _label, begin, length in life(outcome)]
    assert found == [("moment", 0, 0), *steps]


def test_each_bar_is_seen_and_lies_within_the_drawing():
    """A run of a millisecond in an hour is a line, not nothing; nothing sticks out."""
    outcome = Outcome(created_at=NOW, run_at=NOW, finished_at=NOW + seconds(3600), finish_fence=1)
    outcome.state = "succeeded"
    drawn = bars(outcome, [run(1, "succeeded", 0, 3599.999, 3600)], NOW)
    assert all(bar.width >= 4 and bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in drawn)


POLICY = TaskOptions(retry=RetryPolicy(max_attempts=5, initial=10, jitter=False))


@pytest.mark.parametrize(
    ("values", "options", "plan"),
    [
        ({"run_at": NOW + seconds(42), "attempt": 2}, None, "Next try in 42 s, 3 left."),
        (
            {"run_at": NOW - seconds(2)},
            POLICY,
            "First try as soon as a worker takes it, due for 2 s, 5 left.",
        ),
        (
            {"state": "running", "attempt": 2},
            POLICY,
            "This is try 2; if it fails, the next one in 20 s, 3 left.",
        ),
        (
            {"state": "running", "attempt": 3, "crashes": 1},
            None,
            "This is try 3; 3 left if it fails.",
        ),
        (
            {"state": "running", "attempt": 5},
            POLICY,
            "This is try 5; no more tries if it fails.",
        ),
        (
            {"state": "failed", "attempt": 5, "reason": "retries_exhausted"},
            POLICY,
            "No more tries: all of them were used.",
        ),
        ({"state": "failed", "reason": "unheard of"}, None, "No more tries: unheard of."),
        ({"state": "succeeded", "attempt": 1}, POLICY, "No more tries."),
    ],
)
def test_the_retry_plan_says_what_comes_next(values, options, plan):
    """From the row, and from the policy where the task is known."""
    outcome = Outcome(**{"state": "pending", "max_attempts": 5, "attempt": 0, **values})
    assert retry_plan(outcome, options, NOW) == plan


def test_each_run_has_a_card_and_so_has_the_one_in_progress(viewer):
    """Worker, times and error of those that ended; lease and progress of the one that runs."""
    outcome = tasks.charge.enqueue(7, card_token="x", mood="fine")
    outcomes.retry(Lease.of(claimed(outcome)), seconds(0), Failure("ValueError", "it broke"))
    text = page(viewer, outcome)
    assert "Next" not in text.partition("Runs</h2>")[2]
    assert 'Run 1: <span class="tasks-state-retried">' in text
    assert "<strong>ValueError</strong> it broke" in text
    assert "in progress" not in text
    claimed(outcome)
    Outcome.objects.filter(pk=outcome.pk).update(progress_done=1, progress_total=4)
    text = page(viewer, outcome)
    assert 'Run 2: <span class="tasks-state-running">' in text
    assert "<dt>Lease until</dt>" in text
    assert 'value="0.2500"' in text


def test_of_very_many_runs_the_last_are_shown(viewer):
    """A page stays a page, and says what it leaves out."""
    outcome = tasks.add.enqueue(1, 2)
    Attempt.objects.bulk_create(
        Attempt(outcome=outcome, number=n, fence=n, state="retried", worker="w", started_at=NOW)
        for n in range(1, MOST_RUNS + 3)
    )
    text = page(viewer, outcome)
    assert f"Only the last {MOST_RUNS} are shown." in text
    assert f"Run {MOST_RUNS + 2}: <" in text
    assert "Run 2: <" not in text


def test_log_lines_are_for_those_who_may_see_arguments(viewer):
    """Helpers log what they were called with."""
    outcome = broken(tasks.add.enqueue(1, 2), log="a line\nand the-argument")
    assert "the-argument" not in page(viewer, outcome)
    permission = Permission.objects.get(codename="view_outcome_arguments")
    get_user_model().objects.get().user_permissions.add(permission)
    assert "<summary>2 log lines</summary><pre>a line\nand the-argument</pre>" in page(
        viewer, outcome
    )


def test_an_error_leads_to_its_event_in_sentry(viewer, settings):
    """Where a Sentry is set; elsewhere, and for what is no event's id, the id is shown."""
    event, odd = "0123456789abcdef" * 2, '"><x'
    outcome = broken(tasks.add.enqueue(1, 2), sentry_event_id=event)
    assert f'data-copy="{event}"' in page(viewer, outcome)
    settings.TASKS_APP = {"SENTRY_EVENT_URL": "https://sentry.example/?query={event_id}"}
    assert f'href="https://sentry.example/?query={event}"' in page(viewer, outcome)
    Attempt.objects.update(sentry_event_id=odd)
    assert "sentry.example" not in page(viewer, outcome)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "https://sentry.example/",
        "javascript:alert({event_id})",
        "/events/{event_id}",
        "https://{event_id}.example/",
        "https://user@sentry.example/{event_id}",
        "https://sentry.example/{event_id}/{event_id}",
        'https://sentry.example/{event_id}"',
    ],
)
def test_only_the_address_of_an_events_page_is_a_setting(settings, value):
    """It becomes a link on a page of the admin."""
    settings.TASKS_APP = {"SENTRY_EVENT_URL": value}
    with pytest.raises(ConfigurationError, match="SENTRY_EVENT_URL"):
        read_setting("SENTRY_EVENT_URL")


def test_who_else_asked_for_it_is_told(viewer):
    """Their time, user, request and outcome; users that are gone by their key."""
    outcome = tasks.record_once.enqueue("a key")
    assert "Never." in page(viewer, outcome)
    parent = tasks.add.enqueue(1, 2)
    second = get_user_model().objects.create_user("the-second")
    for owner in (second.pk, 4711, 10**30):
        with context.working_for("second-request", Lineage(parent.pk, parent.pk, owner)):
            tasks.record_once.enqueue("a key")
    text = page(viewer, outcome).partition("Asked for again")[2]
    assert "by the-second" in text
    assert "by user 4711" in text
    assert f"by user {10**30}" in text
    assert 'href="/admin/tasks_app/outcome/trace/second-request/"' in text
    assert f'href="{address(parent)}"' in text


def test_the_family_of_an_outcome_is_linked(viewer):
    """Parent and children, root, replays and what they replay; those that are gone by their id."""
    root = tasks.add.enqueue(0, 0)
    with context.working_for(root.request_id, Lineage.of(root)):
        outcome = tasks.add.enqueue(1, 1)
    with context.working_for(root.request_id, Lineage.of(outcome)):
        children = [tasks.record.enqueue(str(number)) for number in range(2)]
    again = broken(outcome).replay()
    text = page(viewer, outcome)
    for relative in (root, *children, again):
        assert f'<a href="{address(relative)}">{relative.pk}</a>' in text
    assert f'<a href="{address(outcome)}">' in page(viewer, again)
    gone = root.pk
    root.delete()
    assert f"{gone} (not here any more)" in page(viewer, outcome)


def test_a_request_with_very_many_outcomes_is_not_read_through(viewer, monkeypatch):
    """The next ones are; what may be missing is said."""
    monkeypatch.setattr(reach, "FEW", 3)
    monkeypatch.setattr(relatives, "FEW", 3)
    with context.working_for("one-request", None):
        outcome = tasks.add.enqueue(0, 0)
    with context.working_for("one-request", Lineage.of(outcome)):
        children = [tasks.add.enqueue(1, number) for number in range(8)]
    text = page(viewer, outcome)
    assert address(children[0]) in text
    assert address(children[-1]) not in text
    assert "there may be more children" in text


def test_the_code_of_a_known_task_is_named(viewer):
    """Module and line of the helper, also of a decorated one; nothing where nobody knows it."""
    line = tasks.add.helper.__code__.co_firstlineno
    outcome = tasks.add.enqueue(1, 2)
    assert f"<code>tests.testapp.helpers:{line}</code>" in page(viewer, outcome)
    Outcome.objects.filter(pk=outcome.pk).update(task_name="tests.gone")
    assert "<code>" not in page(viewer, outcome)


def test_a_page_is_live_until_its_outcome_is_final(viewer):
    """What cannot change is not asked for again."""
    outcome = tasks.add.enqueue(1, 2)
    assert 'data-live="' in page(viewer, outcome)
    assert 'data-live="' not in page(viewer, broken(outcome))


def test_what_a_page_of_one_outcome_costs(reader):
    """Statements are pinned, however many runs, repeats, children and replays there are."""
    with context.working_for("abcdefgh", None):
        outcome = tasks.record_once.enqueue("a")
    plain = tasks.add.enqueue(1, 2)
    user = get_user_model().objects.get()
    costs = []
    for _ in range(2):
        with context.working_for("abcdefgh", Lineage(outcome.pk, outcome.pk, user.pk)):
            for number in range(3):
                tasks.add.enqueue(number, 1)
                tasks.record_once.enqueue("a")
                Attempt.objects.create(
                    outcome=outcome,
                    number=1,
                    fence=Attempt.objects.count(),
                    state="retried",
                    worker="w",
                    started_at=timezone.now(),
                )
        for each in (plain, outcome, Outcome.objects.filter(parent_id=outcome.pk)[0]):
            with CaptureQueriesContext(connection) as captured:
                page(reader, each)
            costs.append(len(captured))
            table = [q["sql"] for q in captured if 'FROM "tasks_app_outcome"' in q["sql"]]
            assert not [sql for sql in table if "COUNT(" in sql]
    # With a key: its repeats and their users. With elders: those; with an owner: the user.
    assert costs == [STATEMENTS, STATEMENTS + 2, STATEMENTS + 2] * 2
