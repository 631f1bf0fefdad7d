"""`tasks retry`, `cancel` and `prune`: what they do, what they refuse, and when they ask."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios
from datetime import timedelta

import pytest

from tasks_app.models import Attempt, IdempotencyKey, Outcome
from tests.integration.command_line import ago, claimed, failed, rewritten, succeeded, tasks
from tests.processes import ROOT
from tests.testapp.tasks import add, record_once, total

pytestmark = pytest.mark.django_db(transaction=True)


def typed_at_terminal(answer: str, *words: str) -> tuple[int, str]:
    """Run `manage.py tasks …` at a terminal; return its exit code and what the screen shows."""
    keyboard, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    os.write(keyboard, answer.encode())
    command = [sys.executable, "-m", "django", "tasks", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    screen = b""
    with contextlib.suppress(OSError), os.fdopen(keyboard, "rb", buffering=0) as output:
        while piece := output.read(4096):
            screen += piece
    return process.wait(60), screen.decode()


def states(*wanted: Outcome) -> list[str]:
    """Return the present states of outcomes."""
    for outcome in wanted:
        outcome.refresh()
    return [outcome.state for outcome in wanted]


def test_retrying_a_pending_outcome_makes_it_due():
    """An outcome that waits for a later time is due at once."""
    outcome = add.using(run_after=timedelta(hours=1)).enqueue(1, 2)
    typed = tasks("retry", outcome.pk)
    assert (typed.code, typed.output) == (0, f"{outcome.pk} is due now\n")
    assert Outcome.objects.due().get() == outcome


def test_retrying_a_final_outcome_replays_it():
    """The new outcome is linked to the old one, which does not change; both ids are told."""
    outcome = failed(add.enqueue(1, b=2))
    typed = tasks("retry", outcome.pk)
    again = Outcome.objects.get(replay_of=outcome)
    assert (typed.code, typed.output) == (0, f"{outcome.pk} replayed as {again.pk}\n")
    assert states(outcome, again) == ["failed", "pending"]
    assert (again.args, again.kwargs) == ([1], {"b": 2})


def test_a_running_outcome_is_not_retried():
    """It is refused by name, with exit code 1, and the others are retried all the same."""
    running = claimed(add.enqueue(1, 2))
    outcome = failed(add.enqueue(3, 4))
    typed = tasks("retry", running.pk, outcome.pk)
    assert typed.code == 1
    assert f"{running.pk} refused: it is running" in typed.output
    assert f"{outcome.pk} replayed as" in typed.output
    assert "1 of 2 refused" in typed.errors


def test_the_same_retry_typed_twice_replays_once():
    """What was replayed is refused and its successor named; `--again` insists."""
    outcome = failed(add.enqueue(1, 2))
    tasks("retry", outcome.pk)
    again = Outcome.objects.get(replay_of=outcome)
    typed = tasks("retry", outcome.pk)
    assert typed.code == 1
    assert f"outcome {again.pk} stands for it now" in typed.output
    assert tasks("retry", "--state", "failed").code == 0
    assert Outcome.objects.filter(replay_of=outcome).count() == 1
    assert tasks("retry", outcome.pk, "--again").code == 0
    assert Outcome.objects.filter(replay_of=outcome).count() == 2


def test_a_replay_that_failed_is_retried_in_its_turn():
    """Filters find the last of a row of replays and leave its forerunners alone."""
    first = failed(record_once.enqueue("key"))
    tasks("retry", first.pk)
    second = failed(Outcome.objects.get(replay_of=first))
    typed = tasks("retry", "--task", record_once.name, "--yes")
    assert f"{second.pk} replayed" in typed.output
    assert f"{first.pk} refused" in typed.output
    assert Outcome.objects.count() == 3


def test_an_outcome_of_an_unknown_task_is_refused():
    """A task that this process does not know cannot be replayed by it."""
    outcome = rewritten(failed(add.enqueue(1, 2)), task_name="tests.testapp.helpers.ad")
    typed = tasks("retry", outcome.pk)
    assert typed.code == 1
    assert "refused: No task 'tests.testapp.helpers.ad' is registered here." in typed.output


def test_arguments_that_no_longer_fit_are_refused():
    """A signature that changed since is told, without a traceback."""
    outcome = rewritten(failed(add.enqueue(1, 2)), args_json="[1, 2, 3]")
    typed = tasks("retry", outcome.pk)
    assert typed.code == 1
    assert "refused: too many positional arguments" in typed.output


def test_filters_without_a_state_mean_failed_ones():
    """A retry by task name does not run again what succeeded."""
    bad, good, waiting = failed(add.enqueue(1, 2)), succeeded(add.enqueue(3, 4)), add.enqueue(5, 6)
    typed = tasks("retry", "--task", add.name)
    assert typed.code == 0
    assert [line.split()[0] for line in typed.output.splitlines()] == [str(bad.pk)]
    assert states(good, waiting) == ["succeeded", "pending"]


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_more_than_one_match_needs_a_yes(verb):
    """Without a terminal to ask at, nothing is done, and the number is told."""
    outcomes = [add.enqueue(n, n) for n in range(3)]
    typed = tasks(verb, "--state", "pending")
    assert typed.code == 1
    assert f"3 outcomes match; nothing was done. Add --yes to {verb} them." in typed.errors
    assert states(*outcomes) == ["pending"] * 3
    assert tasks(verb, "--state", "pending", "--yes").code == 0


@pytest.mark.parametrize(("answer", "state"), [("y", "cancelled"), ("", "pending")])
def test_at_a_terminal_the_operator_is_asked_and_sees_progress(answer, state):
    """Only a yes counts; the bar is drawn at a terminal alone."""
    outcomes = [add.enqueue(n, n) for n in range(2)]
    code, screen = typed_at_terminal(f"{answer}\n", "cancel", "--task", add.name)
    assert "2 outcomes match. Cancel them? [y/N]" in screen
    assert code == (0 if state == "cancelled" else 1)
    assert ("2/2" in screen) == (state == "cancelled")
    assert states(*outcomes) == [state] * 2


def test_without_a_terminal_no_progress_is_drawn(capfd):
    """Logs and cron mails stay readable."""
    add.enqueue_many([(n, n) for n in range(3)])
    tasks("cancel", "--state", "pending", "--yes")
    tasks("prune")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_nothing_named_is_refused(verb):
    """Everything is never meant by saying nothing."""
    outcome = add.enqueue(1, 2)
    typed = tasks(verb, "--yes")
    assert typed.code == 1
    assert "Say which outcomes" in typed.errors
    assert states(outcome) == ["pending"]


def test_ids_and_filters_together_are_refused():
    """It could mean both or either."""
    outcome = add.enqueue(1, 2)
    typed = tasks("cancel", outcome.pk, "--state", "pending")
    assert typed.code == 1
    assert "not both" in typed.errors
    assert states(outcome) == ["pending"]


def test_an_unknown_id_stops_before_anything_is_done():
    """A typing error in the second id does not leave half of the work done."""
    outcome = add.enqueue(1, 2)
    assert tasks("cancel", outcome.pk, "01900000-0000-7000-8000-000000000000").code == 1
    assert states(outcome) == ["pending"]


def test_cancelling_says_what_became_of_each():
    """Pending ones never run, running ones are asked, final ones are refused."""
    waiting, running = add.enqueue(1, 2), claimed(add.enqueue(3, 4))
    done = succeeded(add.enqueue(5, 6))
    typed = tasks("cancel", waiting.pk, running.pk, done.pk, "--reason", "wrong price")
    assert typed.code == 1
    first, second, third = typed.output.splitlines()
    assert first == f"{waiting.pk} cancelled"
    assert second.startswith(f"{running.pk} asked to stop")
    assert third == f"{done.pk} refused: it is succeeded already"
    assert states(waiting, running, done) == ["cancelled", "running", "succeeded"]
    assert "wrong price" in waiting.cancel_reason
    assert running.cancel_requested_at is not None


def test_discarding_takes_what_waits_alone():
    """With the reason that was typed; what runs is refused."""
    waiting, running = add.enqueue(1, 2), claimed(add.enqueue(3, 4))
    typed = tasks("discard", waiting.pk, running.pk, "--reason", "nobody waits")
    assert typed.output.splitlines() == [
        f"{waiting.pk} discarded",
        f"{running.pk} refused: it is running",
    ]
    assert states(waiting, running) == ["failed", "running"]
    assert "nobody waits" in waiting.error


def test_moving_says_where_to():
    """A place has to be given, and has to be one."""
    waiting, done = add.enqueue(1, 2), succeeded(add.enqueue(3, 4))
    typed = tasks("move", waiting.pk, done.pk, "--to-queue", "slow", "--to-priority", "9")
    assert typed.output.splitlines() == [
        f"{waiting.pk} waits in slow with priority 9",
        f"{done.pk} refused: it is succeeded",
    ]
    assert "Say where to" in tasks("move", waiting.pk).errors
    assert "printable" in tasks("move", waiting.pk, "--to-queue", "a\nb").errors


def test_cancelling_by_filter_leaves_other_outcomes_alone():
    """The filter decides, and final ones are not even looked at."""
    mail, other = add.using(queue="mail").enqueue(1, 2), total.enqueue([1])
    done = succeeded(add.using(queue="mail").enqueue(3, 4))
    typed = tasks("cancel", "--queue", "mail")
    assert (typed.code, typed.output) == (0, f"{mail.pk} cancelled\n")
    assert states(mail, other, done) == ["cancelled", "pending", "succeeded"]


def test_pruning_deletes_by_retention_and_tells_how_many(settings):
    """What retention still keeps stays, whatever waits or runs stays, `--dry-run` deletes none."""
    settings.TASKS_APP = {"RETENTION": {"succeeded": timedelta(days=1), "failed": None}}
    old = rewritten(succeeded(add.enqueue(1, 2)), finished_at=ago(days=2))
    kept = [
        rewritten(failed(add.enqueue(3, 4)), finished_at=ago(days=400)),
        rewritten(add.enqueue(5, 6), created_at=ago(days=400)),
        succeeded(add.enqueue(7, 8)),
    ]
    assert tasks("prune", "--dry-run").output == "1 outcome would be deleted.\n"
    assert Outcome.objects.count() == 4
    typed = tasks("prune")
    assert (typed.code, typed.output, typed.errors) == (0, "1 outcome deleted.\n", "")
    assert not Outcome.objects.filter(pk=old.pk).exists()
    assert not Attempt.objects.filter(outcome_id=old.pk).exists()
    assert Outcome.objects.filter(pk__in=[outcome.pk for outcome in kept]).count() == 3


def test_pruning_keeps_an_outcome_whose_key_is_still_taken(settings):
    """Otherwise a repeated call would take effect twice."""
    settings.TASKS_APP = {"RETENTION": {"succeeded": timedelta(days=1)}}
    outcome = succeeded(record_once.enqueue("key"))
    rewritten(outcome, finished_at=ago(days=2))
    assert tasks("prune").output == "0 outcomes deleted.\n"
    rewritten(outcome, finished_at=ago(days=8))
    assert tasks("prune").output == "1 outcome deleted.\n"
    assert not IdempotencyKey.objects.exists()
