"""Why an outcome failed: told once, in the transaction that failed it, without any secret."""

from __future__ import annotations

import json

import pytest
from django.db import transaction
from django.urls import reverse

from tasks_app import Retry, outcomes, prune, rescue
from tasks_app.failures import place_of
from tasks_app.leases import Lease
from tasks_app.models import Cause, Outcome
from tasks_app.states import Reason
from tests import by_hand
from tests.integration.command_line import ago, claimed, rewritten
from tests.integration.test_statement_counts import verbs
from tests.testapp.tasks import add, charge, record_late, total

pytestmark = pytest.mark.django_db(transaction=True)

HERE = __name__


def stumble(*_args, **_kwargs):
    raise LookupError("with secret words")


def deeper(*args, **kwargs):
    return stumble(*args, **kwargs)


def end(outcome, helper):
    """Run an outcome with a helper that fails; return the cause that is there then."""
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the helper raises
        by_hand.run(claimed(outcome), helper)
    return Cause.objects.filter(pk=outcome.pk).first()


def test_a_failure_has_its_class_and_the_deepest_place_in_the_projects_code():
    """Both of it, and no word of what was said or given."""
    cause = end(add.enqueue(1, 2), deeper)
    assert (cause.error_type, cause.place) == ("builtins.LookupError", f"{HERE}:stumble")
    assert cause.task_name == add.name
    outcome = Outcome.objects.get(pk=cause.pk)
    assert abs(cause.failed_at - outcome.finished_at).total_seconds() < 5
    assert "secret" not in "".join(map(str, Cause.objects.values_list().get()))


@pytest.mark.parametrize(
    ("act", "error_type"),
    [
        (lambda: json.loads("{"), "json.decoder.JSONDecodeError"),
        (lambda: reverse("nowhere"), "django.urls.exceptions.NoReverseMatch"),
        (lambda: add.enqueue(object(), 1), "tasks_app.exceptions.InvalidArgument"),
    ],
    ids=["Python", "installed", "tasks_app"],
)
def test_what_other_packages_raise_is_placed_where_the_project_called_them(act, error_type):
    """Frames of Python, of installed packages and of this app are nobody's to mend."""
    cause = end(add.enqueue(1, 2), lambda *_: act())
    assert cause.error_type == error_type
    assert cause.place == f"{HERE}:<lambda>"
    assert place_of(ValueError("raised nowhere")) == ""


def test_one_kind_of_failure_has_one_fingerprint_whatever_the_task():
    """Class and place make a kind; another place makes another."""
    one, two = end(add.enqueue(1, 2), stumble), end(total.enqueue([1]), deeper)
    assert one.fingerprint == two.fingerprint

    def elsewhere(*_):
        raise LookupError

    assert end(add.enqueue(3, 4), elsewhere).fingerprint != one.fingerprint


def test_without_an_exception_the_reason_and_the_task_make_the_kind():
    """Lost workers and unknown tasks have no place; each task of theirs is a kind."""
    found = [add.enqueue(1, 2), add.enqueue(3, 4), total.enqueue([1])]
    for outcome in found:
        assert outcomes.give_up(outcome.pk, Reason.UNREGISTERED, "nobody knows it")
    first, second, other = (Cause.objects.get(pk=outcome.pk) for outcome in found)
    assert (first.error_type, first.place) == ("unregistered", "")
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert not outcomes.give_up(found[0].pk, Reason.UNREGISTERED, "again")


def test_a_worker_that_is_lost_for_good_is_a_cause(settings):
    """The rescue that fails an outcome tells why; one that gives it back does not."""
    settings.TASKS_APP = {"MAX_CRASHES": 2}
    outcome = add.enqueue(1, 2)
    for crash in (1, 2):
        by_hand.let_lease_run_out(claimed(rewritten(outcome, run_at=ago(seconds=1))))
        assert rescue.run_once() == 1
        assert Cause.objects.count() == crash - 1
    assert Cause.objects.get().error_type == "worker_lost"


def test_a_run_that_will_be_tried_again_has_no_cause():
    """Only the end of an outcome is one."""

    def again(*_):
        raise Retry

    assert end(record_late.enqueue("key"), again) is None
    assert Outcome.objects.get().state == "pending"


def test_a_rollback_takes_the_cause_with_it():
    """State and cause are one fact."""
    outcome = claimed(add.enqueue(1, 2))
    with transaction.atomic():
        outcomes.fail(Lease.of(outcome), Reason.DISCARDED)
        transaction.set_rollback(True)
    assert not Cause.objects.exists()


def test_a_failure_costs_one_insert_more():
    """The update, the attempt, the cause."""
    outcome = claimed(add.enqueue(1, 2))
    with transaction.atomic(), verbs() as seen:
        outcomes.fail(Lease.of(outcome), Reason.DISCARDED)
    assert seen == ["UPDATE", "INSERT", "INSERT"]


def test_pruning_takes_the_cause_with_its_outcome(settings):
    """Nothing is left that speaks of a row which is gone."""
    settings.TASKS_APP = {"RETENTION": {"failed": 1}}
    end(add.enqueue(1, 2), stumble)
    Outcome.objects.update(finished_at=ago(minutes=1))
    assert sum(prune.prune()) == 1
    assert not Cause.objects.exists()


def test_a_replay_is_noted_with_the_cause():
    """In the transaction of the replay, so that failures that were dealt with can be told apart."""
    cause = end(add.enqueue(1, 2), stumble)
    assert cause.replayed_at is None
    outcome = Outcome.objects.get(pk=cause.pk)
    with transaction.atomic():
        outcome.replay()
        transaction.set_rollback(True)
    cause.refresh_from_db()
    assert cause.replayed_at is None
    outcome.replay()
    cause.refresh_from_db()
    assert cause.replayed_at is not None


def test_a_secret_in_a_name_is_not_written_down():
    """Texts of a call stand in no column of its cause."""
    outcome = charge.enqueue(7, "tok_4242", "good")

    def helper(*_):
        raise ValueError("tok_4242")

    assert end(outcome, helper) is None
    rewritten(outcome, run_at=ago(seconds=1))
    cause = end(outcome, helper)
    assert "tok_4242" not in "".join(map(str, Cause.objects.filter(pk=cause.pk).values_list()[0]))
